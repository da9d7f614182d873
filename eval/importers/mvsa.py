"""MVSA-Single and MVSA-Multiple: tweets of a text and a picture, positive, neutral or negative.

Source: Niu, Zhu, Pang and El Saddik 2016, "Sentiment Analysis on Multi-View Social Data",
MMM 2016, https://mcrlab.net/research/mvsa-sentiment-analysis-on-multi-view-social-data/.
Layout, as distributed: ``labelResultAll.txt`` with a heading and lines ``ID<tab>text,image``
(Multiple: three such pairs, one for each annotator), ``data/ID.jpg`` and ``data/ID.txt``. Checked
against the reading code of https://github.com/xunan0812/MultiSentiNet (its table of rules) and of
https://github.com/Link-Li/CLMLF (``data_process``).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from eval.card import Task, TaskCard
from eval.importers.near_duplicates import with_clusters
from eval.importers.rows import Account, LabelledRow, build_task, open_table

CLASSES = ("positive", "neutral", "negative")
ENCODINGS = ("utf-8", "gb18030", "latin-1")
"""Order in which a text file is tried; Latin-1 takes any bytes, so the last one never fails."""

LABEL_FILES = ("labelResultAll.txt", "labelResult.txt")
Protocol = Literal["xu-mao-2017", "agreeing"]
"""Which pairs stay: those of Xu and Mao 2017 ("MultiSentiNet", CIKM 2017): equal labels, and a
neutral one gives way to the other; or only those whose two labels agree. Scores of one model lie
seven points apart between them."""

PUBLISHED = {
    (1, "xu-mao-2017"): 4_511,
    (1, "agreeing"): 2_592,
    (3, "xu-mao-2017"): 17_024,
}
"""Pairs that papers report, by annotators and protocol."""


def import_mvsa(folder: Path, out: Path, annotators: Literal[1, 3], protocol: Protocol) -> Task:
    """Shard one of the two sets and write its card.

    Pairs with the same picture or the same text form one group.

    Args:
        folder: The unpacked set; read only.
        out: Task folder to create.
        annotators: 1 for MVSA-Single, 3 for MVSA-Multiple, where a modality's label is what at
            least two of the three say.
        protocol: Which pairs stay.

    Raises:
        ValueError: Another layout, a label that is none of the three, no usable pair, or ``out``
            exists and is not empty.
        data_sharding.schema.ShardError: The pairs cannot be sharded.
    """
    label_file = next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)
    if label_file is None:
        raise ValueError(
            f"{folder}: neither {' nor '.join(LABEL_FILES)} (the authors' layout, beside data/) is "
            "here; a table with columns of its own is imported by `triptych task new`"
        )
    published = PUBLISHED.get((annotators, protocol))
    account = Account(published={} if published is None else {"pairs": published})
    rows = list(_pairs(label_file, annotators, protocol, account.counts))
    if not rows:
        dropped = dict(sorted(account.counts.items()))
        raise ValueError(f"{folder}: no usable pair; dropped: {dropped}")
    rows = with_clusters(rows, texts=True)
    found = Counter(row.labels["sentiment"] for row in rows)
    notes = [
        *account.notes({"pairs": len(rows)}),
        *(f"pairs labelled {name}: {found[name]}" for name in CLASSES),
    ]
    return build_task(rows, _card(annotators, protocol), out, notes)


def combine_labels(text_label: str, image_label: str, protocol: Protocol) -> str | None:
    """One label of two; None where the pair is dropped."""
    if text_label == image_label:
        return text_label
    if protocol == "agreeing" or "neutral" not in (text_label, image_label):
        return None
    return image_label if text_label == "neutral" else text_label


def majority(labels: Sequence[str]) -> str | None:
    """What most annotators say; None where no two of three agree."""
    label, count = Counter(labels).most_common(1)[0]
    return label if 2 * count > len(labels) else None


def decode_text(content: bytes) -> tuple[str, str]:
    """Text and the encoding that fitted, tried in the order of `ENCODINGS`.

    GB18030 also fits a few Latin-1 texts by chance; bytes alone cannot tell them apart.
    """
    for encoding in ENCODINGS:
        try:
            return content.decode(encoding).strip(), encoding
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes any bytes")


def _pairs(
    label_file: Path, annotators: int, protocol: Protocol, counts: Counter[str]
) -> Iterator[LabelledRow]:
    with open_table(label_file) as stream:
        lines = stream.read().splitlines()
    for number, line in enumerate(lines, start=1):
        pair_id, *cells = (cell.strip() for cell in line.split("\t"))
        if not line.strip() or pair_id.lower() == "id":
            continue
        marks = [tuple(label.strip().lower() for label in cell.split(",")) for cell in cells]
        whole = len(marks) == annotators and pair_id.isdecimal()
        if not whole or not all(len(mark) == 2 and set(mark) <= set(CLASSES) for mark in marks):
            raise ValueError(
                f"{label_file}, line {number}: expected 'ID<tab>text,image'"
                + (f" with {annotators} such pairs" if annotators > 1 else "")
                + f" and labels among {CLASSES}, got {line!r}"
            )
        both = majority([mark[0] for mark in marks]), majority([mark[1] for mark in marks])
        if both[0] is None or both[1] is None:
            counts["dropped: no two annotators agree on the text or the picture"] += 1
            continue
        label = combine_labels(both[0], both[1], protocol)
        if label is None:
            disagree = "one label positive, the other negative"
            agreeing = protocol == "agreeing"
            counts[f"dropped: {'the two labels differ' if agreeing else disagree}"] += 1
            continue
        yield from _read_pair(label_file.parent / "data", pair_id, label, counts)


def _read_pair(data: Path, pair_id: str, label: str, counts: Counter[str]) -> Iterator[LabelledRow]:
    text_file, image = data / f"{pair_id}.txt", data / f"{pair_id}.jpg"
    if not text_file.is_file() or not image.is_file():
        counts["dropped: text or picture missing"] += 1
        return
    text, encoding = decode_text(text_file.read_bytes())
    if not text:
        counts["dropped: empty text"] += 1
        return
    counts[f"texts decoded as {encoding}"] += 1
    yield LabelledRow(row_id=pair_id, text=text, image=image, labels={"sentiment": label})


def _card(annotators: int, protocol: Protocol) -> TaskCard:
    name = "single" if annotators == 1 else "multiple"
    rules = {
        "xu-mao-2017": "label of a pair: equal labels stay, neutral gives way to the other, "
        "positive against negative is dropped (Xu and Mao 2017)",
        "agreeing": "label of a pair: only pairs whose text and picture have one label stay",
    }
    votes = ("a modality's label is what two of three annotators say",) if annotators > 1 else ()
    return TaskCard(
        name=f"mvsa-{name}" + ("-agreeing" if protocol == "agreeing" else ""),
        label_key="sentiment",
        group_key="group",
        classes=CLASSES,
        modalities=("text", "image"),
        licence="research use only; posts of private people, do not redistribute",
        source=f"Niu et al. 2016, Sentiment Analysis on Multi-View Social Data (MVSA-{name.title()}"
        "), https://mcrlab.net/research/mvsa-sentiment-analysis-on-multi-view-social-data/",
        split_rule="near duplicates (equal picture or equal text) lie on one side",
        notes=(
            *votes,
            rules[protocol],
            f"texts are tried as {', '.join(ENCODINGS)}, in this order",
        ),
    )
