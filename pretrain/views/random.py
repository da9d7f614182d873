"""The one source of randomness of the views."""

from typing import Literal

import numpy as np

Purpose = Literal[
    "text",
    "image",
    "audio",
    "crop_image",
    "crop_audio",
    "subset",
    "text_words",
    "audio_chance",
    "audio_level",
    "audio_masks",
    "natural_text",
    "natural_image",
    "natural_audio",
]
PURPOSES: tuple[Purpose, ...] = (
    "text",
    "image",
    "audio",
    "crop_image",
    "crop_audio",
    "subset",
    "text_words",
    "audio_chance",
    "audio_level",
    "audio_masks",
    "natural_text",
    "natural_image",
    "natural_audio",
)
"""A purpose's place is part of its key, so new ones go to the end: the views that a seed gives
stay what they were."""


def view_generator(
    seed: int, epoch: int, sample_id: int, view: int, purpose: Purpose
) -> np.random.Generator:
    """A generator that depends on its five arguments and on nothing else.

    Counter-based (Philox, Salmon et al. 2011): the key holds the seed and the purpose, the
    counter's upper words the sample, the epoch and the view, so streams never overlap.
    """
    key = np.array([seed, PURPOSES.index(purpose)], dtype=np.uint64)
    counter = np.array([0, view, sample_id, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
