"""What counts as a repetition, and what becomes of it."""

from dataclasses import dataclass
from typing import Literal

HASH_BITS = 256
LARGEST_IMAGE_DISTANCE = 40


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """Repeated rows, and rows that are so alike that they must share a split.

    Rows belong to one cluster when a picture of one is equal or near to a picture of the other, a
    recording has equal bytes, or a text is near, be they main parts or alternatives of their rows.
    A cluster never lies in two splits that are made by hash.
    """

    exact: Literal["drop", "keep"] = "drop"
    """What becomes of a row with the very texts, pictures, recordings (alternatives too) and labels
    of an earlier one: `drop` rejects it as `duplicate`, `keep` leaves it in."""

    near: Literal["off", "cluster", "drop"] = "cluster"
    """`cluster` finds what is near, so that it shares a split; `drop` also rejects a row all of
    whose main parts are near those of an earlier one, as `near-duplicate`; `off` looks for equal
    bytes alone and saves about 1 ms a picture and 0.1 ms a text."""

    image_distance: int = 16
    """Pictures are near when at most this many of the 256 bits of their perceptual hashes differ:
    16 finds recompressed and resized copies, 0 hardly more than equal ones, 40 also crops."""

    text_similarity: float = 0.8
    """Texts are near when they share this much of their runs of 4 characters (Jaccard, estimated
    by MinHash; case, width and spaces do not count)."""

    min_text_characters: int = 30
    """Shorter texts are never near one another: many pictures may be called `dog`."""

    def __post_init__(self) -> None:
        if not 0 <= self.image_distance <= LARGEST_IMAGE_DISTANCE:
            raise ValueError(
                f"duplicates.image_distance must be in [0, {LARGEST_IMAGE_DISTANCE}], "
                f"got {self.image_distance}"
            )
        if not 0.5 <= self.text_similarity <= 1.0:
            raise ValueError(
                f"duplicates.text_similarity must be in [0.5, 1], got {self.text_similarity}"
            )
        if self.min_text_characters < 4:
            raise ValueError(
                f"duplicates.min_text_characters must be at least 4, got {self.min_text_characters}"
            )
