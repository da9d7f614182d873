"""Puts generated text between two marker comments of a document."""

from pathlib import Path

from eval.records import write_text


def write_between(document: Path, name: str, text: str) -> None:
    """Replace what lies between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.

    Raises:
        ValueError: The document has not each marker once, in this order.
    """
    before, after = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    content = document.read_text(encoding="utf-8")
    if content.count(before) != 1 or content.count(after) != 1:
        raise ValueError(f"{document} needs {before} and {after} once each")
    head, _, rest = content.partition(before)
    _, found, tail = rest.partition(after)
    if not found:
        raise ValueError(f"{document}: {after} comes before {before}")
    write_text(document, f"{head}{before}\n{text}\n{after}{tail}")
