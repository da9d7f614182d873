"""Whole words of a text taken out or said twice; word pieces go with their word."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from pretrain.views.checks import Pair, check_pairs


@dataclass(frozen=True, kw_only=True)
class WordEditConfig:
    """Span deletion, word dropout, word repetition, in this order."""

    span_probability: Pair = (0.0, 0.0)
    """Chance that one run of words is taken out of the first and the second view."""

    span_length: Literal["geometric", "uniform"] = "geometric"
    """How the run's length in words is drawn; `uniform` is 1 to ``span_max_words``."""

    span_mean_words: float = 3.0
    """Mean of the geometric length, before it is cut to ``span_max_words``."""

    span_max_words: int = 10
    """Longest run."""

    drop_probability: Pair = (0.0, 0.0)
    """Share of words taken out of the first and the second view."""

    repeat_probability: Pair = (0.0, 0.0)
    """Share of words said twice in the first and the second view, as far as there is room."""

    def __post_init__(self) -> None:
        names = ("span_probability", "drop_probability", "repeat_probability")
        check_pairs(self, "text.words", names)
        if self.span_max_words < 1:
            raise ValueError(
                f"views.text.words.span_max_words must be positive, got {self.span_max_words}"
            )
        if not 1.0 <= self.span_mean_words < math.inf:
            raise ValueError(
                "views.text.words.span_mean_words must be finite and at least 1, got "
                f"{self.span_mean_words}"
            )


def number_words(
    special: Bool[np.ndarray, " token"], continuation: Bool[np.ndarray, " token"]
) -> Int64[np.ndarray, " token"]:
    """The number of each token's word, from 0; -1 for special tokens and padding."""
    starts = ~special & ~continuation
    # A text cut in the middle of a word may begin with a continuation.
    starts |= ~special & np.concatenate([[True], special[:-1]])
    return np.where(special, -1, np.cumsum(starts) - 1)


def edit_words(
    words: Int64[np.ndarray, " token"],
    free: Bool[np.ndarray, " token"],
    kept: Bool[np.ndarray, " token"],
    view: int,
    config: WordEditConfig,
    generator: np.random.Generator,
) -> Int64[np.ndarray, " place"]:
    """Which tokens the view has, in its order.

    At least one word stays of a text that had one. A word with a token that is not free stays as
    it is. All numbers are drawn whether used or not.

    Args:
        words: As `number_words` gives them.
        free: False for tokens that must stay.
        kept: False for tokens that are gone already, and for padding.
        view: 0 or 1.
        config: Shares of each view.
        generator: Of the text's view.

    Returns:
        Places in the text, in rising order but for repeated words; never more than the text's
        tokens and padding.
    """
    count = int(words.max(initial=-1)) + 1
    if count == 0:
        return np.flatnonzero(kept)
    bound = np.zeros(count, dtype=bool)
    bound[words[~free & (words >= 0)]] = True
    dropped = _draw_dropped(count, view, config, generator) & ~bound
    repeated = (generator.random(count) < config.repeat_probability[view]) & ~bound & ~dropped
    alive = np.bincount(words[kept & (words >= 0)], minlength=count) > 0
    if not (alive & ~dropped).any():
        dropped[np.flatnonzero(alive)[:1]] = False
    stays = kept & ((words < 0) | ~dropped[words])
    room = len(words) - int(stays.sum())
    places: list[int] = []
    for word, run in _runs(words, np.flatnonzero(stays)):
        twice = word >= 0 and bool(repeated[word]) and len(run) <= room
        places += run * 2 if twice else run
        room -= len(run) * twice
    return np.array(places, dtype=np.int64)


def _draw_dropped(
    count: int, view: int, config: WordEditConfig, generator: np.random.Generator
) -> Bool[np.ndarray, " word"]:
    """Words of the span and those of the dropout."""
    chance = generator.random()
    geometric = int(generator.geometric(1.0 / config.span_mean_words))
    uniform = int(generator.integers(1, config.span_max_words + 1))
    length = uniform if config.span_length == "uniform" else min(geometric, config.span_max_words)
    start = int(generator.integers(max(1, count - length + 1)))
    dropped = generator.random(count) < config.drop_probability[view]
    if chance < config.span_probability[view]:
        dropped[start : start + length] = True
    return dropped


def _runs(
    words: Int64[np.ndarray, " token"], places: Int64[np.ndarray, " place"]
) -> list[tuple[int, list[int]]]:
    """The places that stay, gathered by word; each special token alone."""
    runs: list[tuple[int, list[int]]] = []
    for place, word in zip(places.tolist(), words[places].tolist(), strict=True):
        if runs and word >= 0 and runs[-1][0] == word:
            runs[-1][1].append(place)
        else:
            runs.append((word, [place]))
    return runs
