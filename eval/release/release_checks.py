"""What a folder must be before it is given out, and when it comes back: no pickle, whole."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from pretrain.models.sums import SUMS_FILE

Lister = Callable[[Path], Iterator[Path]]
OF_A_DOWNLOAD = (".gitattributes", ".git", ".cache")
"""What the Hub, `git clone` and `hf download --local-dir` put beside a release; never opened."""
_ALLOWED = {".safetensors", ".json", ".txt", ".md", ".onnx"}


def release_files(folder: Path) -> Iterator[Path]:
    """Files of a folder, in a fixed order.

    Raises:
        ValueError: A link, or something that is neither file nor folder.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path}: only plain files can be published")
        if path.is_file():
            yield path


def received_files(folder: Path) -> Iterator[Path]:
    """Files of a release that was downloaded, in the order of `release_files`.

    The Hub's cache is made of links to files: each counts as the file that it leads to. What a
    download puts beside the release is passed over.

    Raises:
        ValueError: A link that leads to no file, or something that is neither file nor folder.
    """
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] in OF_A_DOWNLOAD:
            continue
        if path.is_file():
            yield path
        elif path.is_symlink() or not path.is_dir():
            raise ValueError(f"{path}: is no file, nor a link to one; download the release again")


def refuse_pickles(folder: Path, files: Lister = release_files) -> None:
    """Refuse every file that is no safetensors, ONNX, JSON or text, whatever its name says.

    Args:
        folder: What is looked at.
        files: Lists it; `received_files` where it may be a download.

    Raises:
        ValueError: Names the first such file.
    """
    for path in files(folder):
        if path.name == SUMS_FILE:
            continue
        with path.open("rb") as stream:
            head = stream.read(4)
        if path.suffix not in _ALLOWED or head[:2] in _PICKLE_HEADS or head == b"PK\x03\x04":
            raise ValueError(
                f"{path}: may hold a pickle; only safetensors, ONNX, JSON and text are published"
            )


_PICKLE_HEADS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def refuse_non_finite(folder: Path) -> None:
    """Refuse weights with NaN or infinities.

    Raises:
        ValueError: Names file and tensor; or a file that is no whole safetensors file.
    """
    for path in release_files(folder):
        if path.suffix != ".safetensors":
            continue
        try:
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (safe_open is no mapping)
                    value = tensors.get_tensor(name)
                    if value.is_floating_point() and not torch.isfinite(value).all():
                        raise ValueError(
                            f"{path}: tensor {name} holds NaN or infinite weights; unfit to publish"
                        )
        except SafetensorError as error:
            raise ValueError(f"{path}: not a whole safetensors file ({error})") from None


def checksums(folder: Path, files: Lister = release_files) -> str:
    """Text of ``SHA256SUMS``, as ``sha256sum --check`` reads it."""
    lines = []
    for path in files(folder):
        if path.name != SUMS_FILE or path.parent != folder:
            lines.append(f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` of a release: of each encoder's folder, then of the whole."""
    for config in sorted(folder.glob("*/config.json")):
        (config.parent / SUMS_FILE).write_text(checksums(config.parent), encoding="utf-8")
    (folder / SUMS_FILE).write_text(checksums(folder), encoding="utf-8")


def verify_checksums(folder: Path, files: Lister = release_files) -> None:
    """Compare a folder with its sums.

    Args:
        folder: A published backbone, or a head.
        files: Lists it; `received_files` where it may be a download.

    Raises:
        ValueError: No such folder, no sums, or the files that are changed, missing or too many.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    try:
        lines = (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(
            f"{folder}: no {SUMS_FILE}, so nothing tells what it should hold"
        ) from None
    expected = {line[66:]: line[:64] for line in lines}
    found = {line[66:]: line[:64] for line in checksums(folder, files).splitlines()}
    wrong = [
        _what_is_wrong(name, expected, found)
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]
    if wrong:
        raise ValueError(f"{folder}: {'; '.join(wrong)} (sha256)")


def _what_is_wrong(name: str, expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    if name not in found:
        return f"{name} is missing"
    return f"{name} differs from what was published" if name in expected else f"{name} is no part"


def unlisted_files(folder: Path) -> list[str]:
    """Files that the folder's sums do not name."""
    lines = (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines()
    known = {line[66:] for line in lines} | {SUMS_FILE}
    found = {path.relative_to(folder).as_posix() for path in release_files(folder)}
    return sorted(found - known)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
