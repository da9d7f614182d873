"""A published backbone's own files against the sums that were published with them."""

import hashlib
from pathlib import Path

SUMS_FILE = "SHA256SUMS"
BACKBONE_FILES = ("config.json", "model.safetensors", "stats.json", "tokenizer.json")


def refuse_changed(folder: Path) -> None:
    """Compare what a joint backbone is loaded from with ``SHA256SUMS``, where there is one.

    The names in that file are looked up and never opened.

    Raises:
        ValueError: Names the file that differs from what was published, or is not listed.
    """
    path = folder / SUMS_FILE
    if not path.is_file():
        return  # a checkpoint's backbone, whose sums are in COMPLETE
    lines = path.read_text(encoding="utf-8").splitlines()
    sums = {line[66:]: line[:64] for line in lines}
    for name in BACKBONE_FILES:
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if sums.get(name) != found:
            raise ValueError(f"{folder / name}: differs from what was published (sha256)")
