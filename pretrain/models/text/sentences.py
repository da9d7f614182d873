"""Where each sentence of a batch of texts lies, without a loop over rows."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def sentence_grid(
    token_mask: Bool[Tensor, "batch token"],
    ends: Bool[Tensor, "batch token"],
    tails: Bool[Tensor, "batch token"],
    max_sentences: int,
    max_words: int,
) -> Int64[Tensor, "batch sentence word"]:
    """Places of the tokens, laid out by sentence; -1 where there is none.

    A sentence begins at the first token, and at each token after an end that is no tail
    itself. One of more than ``max_words`` tokens goes on as a new sentence; sentences past
    ``max_sentences`` are left out.

    Args:
        token_mask: True where a token is real; real ones come first.
        ends: True for a full stop and its like.
        tails: True for what belongs to the sentence before it: ends, closing marks.
        max_sentences: Rows of a text in the result.
        max_words: Columns.
    """
    batch, num_tokens = token_mask.shape
    place = torch.arange(num_tokens, device=token_mask.device).expand(batch, -1)
    starts = ~tails & _follows_an_end(ends, tails, place) | (place == 0)
    word = place - torch.where(starts, place, 0).cummax(1).values
    starts = starts | (word % max_words == 0)
    sentence, word = starts.cumsum(1) - 1, word % max_words
    inside = token_mask & (sentence < max_sentences)
    cell = torch.where(inside, sentence * max_words + word, max_sentences * max_words)
    grid = place.new_full((batch, max_sentences * max_words + 1), -1).scatter(1, cell, place)
    return grid[:, :-1].unflatten(1, (max_sentences, max_words))


def _follows_an_end(
    ends: Bool[Tensor, "batch token"],
    tails: Bool[Tensor, "batch token"],
    place: Int64[Tensor, "batch token"],
) -> Bool[Tensor, "batch token"]:
    """Whether nothing but tails lies between a token and an end before it."""
    last_end = torch.where(ends, place, -1).cummax(1).values
    last_plain = torch.where(tails, -1, place).cummax(1).values
    ended = last_end > last_plain  # [batch, token], after the token itself
    return torch.cat([torch.zeros_like(ended[:, :1]), ended[:, :-1]], dim=1)
