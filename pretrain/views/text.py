"""Text views: masked and dropped tokens, then whole words dropped and repeated."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from pretrain.views.checks import Pair, check_pairs
from pretrain.views.protected_words import affect_words, spellings
from pretrain.views.vocabulary import TextVocabulary
from pretrain.views.words import WordEditConfig, edit_words, number_words


@dataclass(frozen=True, kw_only=True)
class TextViewConfig:
    """Token masking; the second view is lighter, since it is the lighter view that teaches.

    Special tokens stay, and so do negators and intensifiers.
    """

    mask_probability: Pair = (0.3, 0.15)
    """Share of tokens replaced by [MASK] in the first and the second view."""

    mask_unit: Literal["token", "word"] = "token"
    """`word` masks all pieces of a word or none of them."""

    delete_probability: Pair = (0.0, 0.0)
    """Share of tokens taken out of the first and the second view."""

    words: WordEditConfig = field(default_factory=WordEditConfig)
    """Whole words taken out or said twice, after masking; off by default."""

    protect: Literal["affect", "nothing"] = "affect"
    """`affect`: negators and intensifiers of twenty languages are neither masked nor taken out,
    since a text without its "not" means the opposite."""

    protected_words: tuple[str, ...] = ()
    """More words to protect, such as a name that decides what a text is about."""

    def __post_init__(self) -> None:
        check_pairs(self, "text", ("mask_probability", "delete_probability"))

    def all_protected(self) -> list[str]:
        """Every word to protect, in all its spellings."""
        own = [form for word in self.protected_words for form in spellings(word)]
        return own + (list(affect_words()) if self.protect == "affect" else [])


def text_view(
    token_ids: Int64[Tensor, " token"],
    token_mask: Bool[Tensor, " token"],
    view: int,
    config: TextViewConfig,
    vocabulary: TextVocabulary,
    generators: tuple[np.random.Generator, np.random.Generator],
) -> tuple[Int64[Tensor, " token"], Bool[Tensor, " token"]]:
    """Replace tokens by [MASK], take tokens out, then take out and repeat words.

    Args:
        token_ids: Padded ids.
        token_mask: True where an id is real.
        view: 0 or 1.
        config: Shares of each view.
        vocabulary: Special, continuing and protected tokens.
        generators: One for masking and deleting, drawn from once per token for each of the two;
            one for the words.

    Returns:
        As many ids as came in, the real ones first, and where they are real.
    """
    ids, real = token_ids.numpy(), token_mask.numpy()
    special = vocabulary.special[ids] | ~real
    words = number_words(special, vocabulary.continuation[ids])
    free = ~special & ~vocabulary.find_protected(ids)
    draws = generators[0].random((2, len(ids)))
    if config.mask_unit == "word":
        draws[0], free_to_mask = _by_word(draws[0], free, words)
    else:
        free_to_mask = free
    hidden = free_to_mask & (draws[0] < config.mask_probability[view])
    gone = free & (draws[1] < config.delete_probability[view])
    if not (real & ~special & ~gone).any():
        gone[:] = False  # a text that had a token keeps one: all of them, where all would go
    kept = real & ~gone
    places = edit_words(words, free, kept, view, config.words, generators[1])
    out, mask = np.zeros_like(ids), np.zeros_like(real)
    out[: len(places)] = np.where(hidden, vocabulary.mask_id, ids)[places]
    mask[: len(places)] = True
    return torch.from_numpy(out), torch.from_numpy(mask)


def _by_word(
    draws: np.ndarray, free: Bool[np.ndarray, " token"], words: Int64[np.ndarray, " token"]
) -> tuple[np.ndarray, Bool[np.ndarray, " token"]]:
    """Every piece of a word gets its first piece's draw, and is free if the whole word is."""
    _, first, place = np.unique(words, return_index=True, return_inverse=True)
    bound = np.bincount(place, weights=~free) > 0
    return draws[first[place]], ~bound[place]
