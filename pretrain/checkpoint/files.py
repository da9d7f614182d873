"""Files of a checkpoint: plain ones of two kinds, each with its size and sha256."""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

KINDS = (".safetensors", ".json")
"""Neither can hold code. Anything else, a pickle above all, is not written and not accepted."""

_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
_BFLOAT16_EXPONENT = 0x7F80
_PIECE = 1 << 22
"""Values looked at in one go."""


@dataclass(frozen=True)
class FileSum:
    """What a file must be."""

    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> "FileSum":
        """Of a file as it is now."""
        with path.open("rb") as stream:
            return cls(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {"sha256": self.sha256, "bytes": self.size_bytes}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FileSum":
        """What `to_json` wrote."""
        return cls(str(content["sha256"]), int(content["bytes"]))


def files_of(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its relative name.

    Raises:
        ValueError: a link, or something that is neither file nor folder.
        OSError: a folder cannot be listed; `Path.rglob` would take it for an empty one.
    """
    found = {}
    for path in sorted(
        Path(parent, name)
        for parent, folders, files in os.walk(folder, onerror=_raise)
        for name in (*folders, *files)
    ):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path.relative_to(folder)} is no plain file")
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path
    return found


def _raise(error: OSError) -> None:
    raise error


def refuse_other_kinds(name: str) -> None:
    """Refuse a file that is neither safetensors nor JSON by its name.

    Raises:
        ValueError: it is another; a pickle would run code when it is read.
    """
    if not name.endswith(KINDS):
        raise ValueError(f"{name} is neither safetensors nor JSON, and may hold a pickle")


def refuse_non_finite(path: Path) -> None:
    """Refuse weights with NaN or infinities; files of another kind hold none.

    Raises:
        ValueError: names the first tensor that holds one.
    """
    if path.suffix != ".safetensors":
        return
    for name, pieces in _float_tensors(path):
        if not all(pieces):
            raise ValueError(f"{path.name}: {name} is not finite")


def _float_tensors(path: Path) -> Iterator[tuple[str, Iterator[bool]]]:
    """Name, and by piece whether it is finite. Without torch: a probe's submission has none."""
    content = np.memmap(path, np.uint8, "r")
    (length,) = struct.unpack("<Q", content[:8].tobytes())
    header: dict[str, Any] = json.loads(content[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            yield name, _finite_pieces(content[start:end].view(np.uint16), _is_finite_bfloat16)
        elif entry["dtype"] in _FLOATS:
            yield (
                name,
                _finite_pieces(content[start:end].view(_FLOATS[entry["dtype"]]), np.isfinite),
            )


def _finite_pieces(
    values: np.ndarray, is_finite: Callable[[np.ndarray], np.ndarray]
) -> Iterator[bool]:
    for start in range(0, len(values), _PIECE):
        yield bool(is_finite(values[start : start + _PIECE]).all())


def _is_finite_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits & _BFLOAT16_EXPONENT) != _BFLOAT16_EXPONENT
