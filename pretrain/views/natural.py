"""Natural views: two captions, pictures or recordings that a sample has of one thing.

They are free, and stronger than noise: a caption and its translation share the meaning and not
one token. Two crops of one clip need no option; `TrainCrops` always makes them.
"""

from dataclasses import dataclass

from data_sharding.schema import MODALITIES
from pretrain.views.checks import check_probability
from pretrain.views.random import Purpose, view_generator

PURPOSES: dict[str, Purpose] = {
    "text": "natural_text",
    "image": "natural_image",
    "audio": "natural_audio",
}


@dataclass(frozen=True, kw_only=True)
class NaturalViewConfig:
    """How often the two views show different alternatives, where a sample has any."""

    text: float = 1.0
    """Chance that the views hold two different texts; else both hold the first."""

    image: float = 1.0
    """Chance that the views hold crops of two different pictures."""

    audio: float = 1.0
    """Chance that the views hold crops of two different recordings."""

    def __post_init__(self) -> None:
        for name in MODALITIES:
            check_probability(f"natural.{name}", getattr(self, name))


def draw_alternatives(
    seed: int, epoch: int, sample_id: int, modality: str, count: int, chance: float
) -> tuple[int, int]:
    """Which of a sample's ``count`` texts (pictures, recordings) each view shows.

    Two different ones with the given chance, any two in any order; else the first in both. One
    draw serves both views, since the second must know what the first has.
    """
    generator = view_generator(seed, epoch, sample_id, 0, PURPOSES[modality])
    if count < 2 or generator.random() >= chance:
        return 0, 0
    first, second = generator.choice(count, size=2, replace=False).tolist()
    return first, second
