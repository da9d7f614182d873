"""A row -> 350 bytes that say what it is like, and 350 more for each place of alternatives.

Pictures: ImageHash's perceptual hash with hash_size 16 (256 bits). Measured on 500 drawings of
Tux Paint and 500 photographs of MVSA-Single, copy against original: JPEG quality 75 differs in a
median of 2 bits (95 % within 16 and 4), half size in 2 and 0 bits (14 and 4 at 95 %), 1.5 times the
size at quality 60 in 2 bits (16 and 4). Of 124,750 pairs of different pictures in each set, 1 and 1
come within 16 bits (the latter is one picture twice); 99.99 % are at least 58 and 96 bits apart.
With hash_size 8 (64 bits) a distance of 4 finds as many copies, but different drawings come as near
as 6 bits, too near for corpora of millions. A picture of one colour has no such hash.

Texts: datasketch's MinHash, 64 permutations, over runs of 4 characters, so that languages without
spaces work as well.
"""

import unicodedata
from collections.abc import Mapping
from hashlib import blake2b
from typing import cast

import imagehash
import numpy as np
from datasketch import MinHash
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from data_sharding.duplicates.config import DuplicatesConfig
from data_sharding.schema import MODALITIES, PARTS, modality_of

PERMUTATIONS = 64
SEED = 1
SHINGLE_CHARACTERS = 4
HASH_SIZE = 16
FLATTEST_DEVIATION = 2.0
"""Below this standard deviation of its grey values a picture is of one colour."""

HAS_IMAGE, HAS_AUDIO, HAS_TEXT, HAS_PERCEPTUAL, HAS_MINHASH = 1, 2, 4, 8, 16
IS_ALTERNATIVE = 32
"""Marks what a row holds besides its main parts; it has no content of its own."""
MARKS = {"image": HAS_IMAGE, "audio": HAS_AUDIO, "text": HAS_TEXT}

SIGNATURE = np.dtype(
    [
        ("held", "u1"),  # HAS_... of the row; 0: the row is left out
        ("split", "u1"),  # number in the list of splits beside the table
        ("crc32", "<u4"),  # of the raw media, to notice that they changed
        ("bytes", "<u8"),  # of the members in a tar, headers included
        ("number", "<u8"),  # of the row in its corpus; of an alternative's row in its file
        ("content", "V16"),  # digest of text, image, audio and labels
        ("image", "<u8"),
        ("audio", "<u8"),
        ("text", "<u8"),
        ("perceptual", "u1", (HASH_SIZE * HASH_SIZE // 8,)),
        ("minhash", "<u4", (PERMUTATIONS,)),
    ]
)


class Signer:
    """Fills in signatures.

    Args:
        config: Whether near duplicates are looked for, and the shortest text that has a MinHash.
    """

    def __init__(self, config: DuplicatesConfig) -> None:
        self._config = config
        self._empty = MinHash(num_perm=PERMUTATIONS, seed=SEED)

    def sign(
        self,
        members: Mapping[str, bytes],
        labels: Mapping[str, str],
        image: UInt8[Tensor, "3 height width"] | None,
        text: str | None,
    ) -> np.void:
        """The signature of a row's content; number, split, crc32 and bytes are left at 0.

        Args:
            members: Suffix -> bytes as found, without the card.
            labels: The row's labels.
            image: The decoded picture.
            text: The normalised text.
        """
        row = np.zeros((), SIGNATURE)
        content = blake2b(digest_size=16)
        for suffix, encoded in members.items():
            modality = PARTS[suffix]
            digest = blake2b(encoded, digest_size=16).digest()
            content.update(modality.encode() + digest)
            if modality not in MODALITIES:
                continue  # an alternative has a signature of its own
            row[modality] = int.from_bytes(digest[:8], "little")
            row["held"] |= MARKS[modality]
        for name, value in sorted(labels.items()):
            content.update(blake2b(f"{name}\0{value}".encode(), digest_size=16).digest())
        row["content"] = np.void(content.digest())
        if self._config.near != "off":
            self._add_perceptual(row, image)
            self._add_minhash(row, text)
        return cast(np.void, row[()])

    def alternatives(
        self, members: Mapping[str, bytes], hashes: Mapping[str, np.ndarray]
    ) -> list[np.ndarray]:
        """Signatures of what a row holds besides its main parts, one for each place in use.

        Args:
            members: Suffix -> bytes as found, main ones too.
            hashes: Suffix -> perceptual hash, by `perceptual`, of the pictures that have one.
        """
        by_place: dict[str, np.ndarray] = {}
        for suffix, encoded in members.items():
            modality, place = modality_of(PARTS[suffix]), PARTS[suffix].partition(".")[2]
            if not place:
                continue
            row = by_place.setdefault(place, np.zeros((), SIGNATURE))
            digest = blake2b(encoded, digest_size=16).digest()
            row[modality] = int.from_bytes(digest[:8], "little")
            row["held"] |= IS_ALTERNATIVE | MARKS[modality]
            if suffix in hashes:
                row["perceptual"] = hashes[suffix]
                row["held"] |= HAS_PERCEPTUAL
            if modality == "text" and self._config.near != "off":
                self._add_minhash(row, encoded.decode("utf-8"))
        return list(by_place.values())

    def perceptual(
        self, image: UInt8[Tensor, "3 height width"]
    ) -> UInt8[np.ndarray, "byte"] | None:
        """A picture's perceptual hash; None where it has none or it is not asked for."""
        if self._config.near == "off":
            return None
        grey = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
        if np.asarray(grey).std() < FLATTEST_DEVIATION:
            return None
        bits = imagehash.phash(grey, hash_size=HASH_SIZE).hash
        return np.packbits(bits.ravel())

    def _add_perceptual(self, row: np.ndarray, image: Tensor | None) -> None:
        if image is None or (found := self.perceptual(image)) is None:
            return
        row["perceptual"] = found
        row["held"] |= HAS_PERCEPTUAL

    def _add_minhash(self, row: np.ndarray, text: str | None) -> None:
        plain = " ".join(unicodedata.normalize("NFKC", text or "").casefold().split())
        if len(plain) < self._config.min_text_characters:
            return
        runs = len(plain) - SHINGLE_CHARACTERS + 1
        shingles = {plain[at : at + SHINGLE_CHARACTERS].encode() for at in range(runs)}
        minhash = self._empty.copy()
        minhash.update_batch(sorted(shingles))
        row["minhash"] = minhash.hashvalues  # below 2**32, as datasketch makes them
        row["held"] |= HAS_MINHASH
