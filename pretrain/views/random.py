"""The one source of randomness of the views."""

from typing import Literal

import numpy as np

Purpose = Literal["text", "image", "audio", "crop_image", "crop_audio", "subset"]
PURPOSES: tuple[Purpose, ...] = ("text", "image", "audio", "crop_image", "crop_audio", "subset")


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
