"""The one source of randomness of the views."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt64
from torch import Tensor

from pretrain.views.checks import Pair

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

NUM_VIEWS = 2
BLOCK = 4
"""Numbers that one counter gives."""

MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
KEY_STEPS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
ROUNDS = 10
HALF = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)


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


def draw_doubles(
    seed: int,
    epochs: Int64[np.ndarray, " batch"],
    sample_ids: Int64[np.ndarray, " batch"],
    counts: Mapping[Purpose, int],
) -> Float64[np.ndarray, "view batch draw"]:
    """What `view_generator` of every sample, view and purpose gives first, for a whole batch.

    The same doubles in [0, 1) to the last bit as ``view_generator(...).random(count)``, in one
    go: a generator object for each would take longer than the numbers.

    Args:
        seed: Of the run.
        epochs: Of each sample.
        sample_ids: Number of each sample.
        counts: How many numbers each purpose takes; theirs follow one another in this order.
    """
    lengths = [-(-count // BLOCK) for count in counts.values()]
    numbers = np.concatenate([np.arange(1, length + 1, dtype=np.uint64) for length in lengths])
    purposes = np.repeat([PURPOSES.index(purpose) for purpose in counts], lengths)
    words = _philox(
        (
            numbers,  # numpy's Philox counts up before it gives its first block
            np.arange(NUM_VIEWS, dtype=np.uint64)[:, None, None],
            sample_ids.astype(np.uint64)[:, None],
            epochs.astype(np.uint64)[:, None],
        ),
        (np.array([seed], dtype=np.uint64), purposes.astype(np.uint64)),
    )  # [view, batch, block, 4]
    taken = [
        np.arange(count) + start
        for count, start in zip(counts.values(), BLOCK * np.cumsum([0, *lengths[:-1]]), strict=True)
    ]
    drawn = words.reshape(*words.shape[:2], -1)[..., np.concatenate(taken)]
    return (drawn >> np.uint64(11)) * 2.0**-53


def _philox(
    counter: tuple[UInt64[np.ndarray, "..."], ...],
    key: tuple[UInt64[np.ndarray, "..."], UInt64[np.ndarray, "..."]],
) -> UInt64[np.ndarray, "view batch block 4"]:
    """Philox4x64-10 (Salmon et al. 2011); counter and key words are broadcast together."""
    one, two, three, four = counter
    first, second = key
    for _ in range(ROUNDS):
        high_one, low_one = _multiply(one, MULTIPLIERS[0])
        high_three, low_three = _multiply(three, MULTIPLIERS[1])
        one, two = high_three ^ two ^ first, low_three
        three, four = high_one ^ four ^ second, low_one
        first, second = first + KEY_STEPS[0], second + KEY_STEPS[1]
    return np.stack(np.broadcast_arrays(one, two, three, four), axis=-1)


def _multiply(
    values: UInt64[np.ndarray, "..."], factor: np.uint64
) -> tuple[UInt64[np.ndarray, "..."], UInt64[np.ndarray, "..."]]:
    """Upper and lower 64 bits of the 128-bit products."""
    upper, lower = values >> HALF, values & LOW
    factor_upper, factor_lower = factor >> HALF, factor & LOW
    middle = upper * factor_lower + ((lower * factor_lower) >> HALF)
    carried = (middle & LOW) + lower * factor_upper
    return upper * factor_upper + (middle >> HALF) + (carried >> HALF), values * factor


def happens(draws: Float64[Tensor, "view batch"], chances: Pair) -> Bool[Tensor, "view batch"]:
    """Where a change is made, by each view's chance of it."""
    return torch.stack([drawn < chance for drawn, chance in zip(draws, chances, strict=True)])


def between(draws: Float64[Tensor, "*row"], bounds: Pair) -> Float64[Tensor, "*row"]:
    """Doubles in [0, 1) spread evenly over a range, as numpy's ``uniform`` does."""
    return bounds[0] + (bounds[1] - bounds[0]) * draws


def below(
    draws: Float64[Tensor, "*row"], count: int | Int64[Tensor, "*row"]
) -> Int64[Tensor, "*row"]:
    """Whole numbers in [0, count): which of them, a double in [0, 1) says."""
    return torch.floor(draws * count).long()
