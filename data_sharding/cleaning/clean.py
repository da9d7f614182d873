"""Which records may enter a shard; what can be decided from headers is decided before decoding.

Every rejection has one of these reasons.

- The row: ``bad-row``, ``empty-sample``, ``missing-modality``.
- Its text: ``invalid-utf8``, ``control-characters``, ``text-too-short``, ``text-too-long``.
- Its files: ``missing-file``, ``outside-corpus``, ``file-too-large``, ``unreadable``.
- Its picture: ``not-an-image``, ``image-format``, ``too-many-pixels``, ``image-too-small``,
  ``animated-image``, ``broken-image``.
- Its recording: ``not-audio``, ``audio-format``, ``too-many-channels``, ``sample-rate``,
  ``audio-too-short``, ``audio-too-long``, ``broken-audio``, ``silent-audio``, ``non-finite-audio``.
- A sample of a foreign tar: ``duplicate-key``, ``split-sample``, ``two-of-a-kind``, ``broken-tar``.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from data_sharding.cleaning.check_audio import audio_kind, check_audio
from data_sharding.cleaning.check_image import check_image, image_kind
from data_sharding.cleaning.check_text import clean_text
from data_sharding.cleaning.config import CleanConfig
from data_sharding.cleaning.media import read_medium
from data_sharding.schema import (
    ALTERNATIVES,
    MAIN_PARTS,
    PARTS,
    Medium,
    Record,
    Rejection,
    modalities_of,
    modality_of,
)

__all__ = ["Checked", "CleanConfig", "check_record", "collect_members", "raw_crc32"]

SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A record that may enter a shard.

    Attributes:
        members: Suffix -> bytes as found, in the order of `PARTS`; the JSON card is not among them.
        image: Decoded pixels of the main picture, for a perceptual hash; None without a picture.
        text: The main text in its final form; None without one.
    """

    members: Mapping[str, bytes]
    image: UInt8[Tensor, "3 height width"] | None
    text: str | None


def check_record(
    record: Record,
    root: str,
    config: CleanConfig,
    look: Callable[[str, UInt8[Tensor, "3 height width"]], None] = lambda suffix, pixels: None,
) -> Checked:
    """Reads a record's media and checks them to the last sample.

    Media are kept byte for byte; their suffix follows their content, not their file's name.

    Args:
        record: One row of a corpus.
        root: Where its media paths begin; media outside are refused.
        config: Limits.
        look: Told the suffix and the pixels of each further picture, one at a time: a row of many
            is never decoded as a whole.

    Raises:
        Rejection: With its reason.
    """
    members = collect_members(record, root, config)
    image = None
    for suffix, encoded in members.items():
        modality, kind = modality_of(PARTS[suffix]), suffix.rpartition(".")[2]
        if modality == "image":
            pixels = check_image(encoded, kind, config)
            if suffix in MAIN_PARTS:
                image = pixels
            else:
                look(suffix, pixels)
        elif modality == "audio":
            check_audio(encoded, kind, config)
    text = members["txt"].decode("utf-8") if "txt" in members else None
    return Checked(members=members, image=image, text=text)


def collect_members(record: Record, root: str, config: CleanConfig) -> dict[str, bytes]:
    """The same members without decoding them, for a record that was checked before.

    Raises:
        Rejection: A file is gone, or is no longer what it was.
    """
    if not SPLIT_NAME.fullmatch(record.split):
        raise Rejection("bad-row", f"{record.split!r} is no name for a split")
    members = _texts(record, config)
    media = {"image": record.image, "audio": record.audio, **record.alternatives}
    for part, medium in media.items():
        if not isinstance(medium, Medium):
            continue
        kind, encoded = _read(modality_of(part), medium, root, config)
        place = part.partition(".")[2]
        members[f"{place}.{kind}" if place else kind] = encoded
    _check_modalities(modalities_of(members), config)
    return {suffix: members[suffix] for suffix in PARTS if suffix in members}


def _texts(record: Record, config: CleanConfig) -> dict[str, bytes]:
    """Suffix -> text: those that are left after cleaning, none of them twice.

    They are numbered on from the first that is left, which is the main one.
    """
    names = [name for name in ALTERNATIVES if modality_of(name) == "text"]
    found = [record.text, *(record.alternatives.get(name) for name in names)]
    cleaned = (clean_text(text, config) for text in found if isinstance(text, str))
    texts = dict.fromkeys(text for text in cleaned if text is not None)
    return {
        f"{place}.txt" if place else "txt": text.encode("utf-8") for place, text in enumerate(texts)
    }


def _read(modality: str, medium: Medium, root: str, config: CleanConfig) -> tuple[str, bytes]:
    """Kind and bytes of a picture or recording."""
    if modality == "image":
        encoded = read_medium(root, medium, config.max_image_bytes, config.retry)
        return image_kind(encoded, config), encoded
    encoded = read_medium(root, medium, config.max_audio_bytes, config.retry)
    return audio_kind(encoded, config), encoded


def raw_crc32(members: Mapping[str, bytes]) -> int:
    """One CRC32 over suffixes and bytes, in the order of `PARTS`; the JSON card is left out."""
    crc = 0
    for suffix in PARTS:
        if suffix in members and PARTS[suffix] != "card":
            crc = zlib.crc32(members[suffix], zlib.crc32(suffix.encode("ascii"), crc))
    return crc


def _check_modalities(present: tuple[str, ...], config: CleanConfig) -> None:
    if not present:
        raise Rejection("empty-sample", "it has no text, no image and no audio")
    missing = [name for name in config.require if name not in present]
    if missing:
        raise Rejection("missing-modality", f"it has no {' and no '.join(missing)}")
