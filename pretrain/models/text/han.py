"""HAN: attention over the words of a sentence, then over the sentences of a text."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from pretrain.models.encoded import Encoded, Encoder
from pretrain.models.text.config import TextConfig
from pretrain.models.text.sentences import sentence_grid
from pretrain.models.text.vocabulary import Vocabulary


class HanText(Encoder):
    """Word GRU and attention give sentence vectors; sentence GRU and attention the embedding.

    Sentences end at the tokenizer's full stops, question and exclamation marks of many
    scripts. The tokens given out are the sentences' annotations.

    Source: Yang et al. 2016, Hierarchical Attention Networks for Document Classification,
    NAACL-HLT, equations 1-10.
    """

    ends: Tensor
    tails: Tensor

    def __init__(self, config: TextConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        width = config.hidden_size
        self.embed_dim = self.token_dim = width
        self.max_sentences = config.max_sentences
        self.max_sentence_tokens = config.max_sentence_tokens
        self.register_buffer("ends", vocabulary.sentence_ends(), persistent=False)
        self.register_buffer("tails", vocabulary.sentence_tails(), persistent=False)
        self.words = nn.Embedding(vocabulary.size, width)
        self.word_gru, self.sentence_gru = BothWaysGru(width), BothWaysGru(width)
        self.word_attention, self.sentence_attention = AttentionPool(width), AttentionPool(width)

    def forward(
        self, token_ids: Int64[Tensor, "batch token"], token_mask: Bool[Tensor, "batch token"]
    ) -> Encoded:
        """Attention-weighted sum over sentences; zeros for a text without tokens."""
        ends, tails = self.ends[token_ids], self.tails[token_ids]
        place = sentence_grid(
            token_mask, ends, tails, self.max_sentences, self.max_sentence_tokens
        )  # [batch, sentence, word]
        ids = token_ids.gather(1, place.clamp(min=0).flatten(1)).view_as(place)
        vectors = self._sentence_vectors(self.words(ids).flatten(0, 1), (place >= 0).flatten(0, 1))
        present = (place >= 0).any(2)  # [batch, sentence]
        annotations = self.sentence_gru(vectors.unflatten(0, place.shape[:2]), present)
        pooled = self.sentence_attention(annotations, present)
        return Encoded(pooled=pooled, tokens=annotations, token_mask=present)

    def _sentence_vectors(
        self, words: Float[Tensor, "row word embed"], mask: Bool[Tensor, "row word"]
    ) -> Float[Tensor, "row embed"]:
        return self.word_attention(self.word_gru(words, mask), mask)


class BothWaysGru(nn.Module):
    """A GRU in each direction, half the width each, side by side.

    The backward one reads each row from its last real step, so that padding reaches neither.
    (A packed sequence would do the same, but its lengths must leave the device.)

    Source: Cho et al. 2014, arXiv 1406.1078.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.forwards = nn.GRU(width, width // 2, batch_first=True)
        self.backwards = nn.GRU(width, width // 2, batch_first=True)

    def forward(
        self, steps: Float[Tensor, "row step embed"], mask: Bool[Tensor, "row step"]
    ) -> Float[Tensor, "row step embed"]:
        """States at every step; those of padding mean nothing."""
        order = _reversed_order(mask)
        ahead, _ = self.forwards(steps)
        back, _ = self.backwards(_in_order(steps, order))
        return torch.cat([ahead, _in_order(back, order)], dim=-1)


class AttentionPool(nn.Module):
    """``sum_i alpha_i h_i`` with ``alpha = softmax(tanh(W h_i + b)^T u)`` under a mask."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, width)
        self.context = nn.Linear(width, 1, bias=False)

    def forward(
        self, states: Float[Tensor, "row step embed"], mask: Bool[Tensor, "row step"]
    ) -> Float[Tensor, "row embed"]:
        """Zeros for a row without any real step."""
        logits = self.context(self.key(states).tanh()).squeeze(-1).float()  # [row, step]
        # A large negative number, not -inf: a row without any step must stay finite.
        weights = logits.masked_fill(~mask, -1e9).softmax(1) * mask
        return (weights.unsqueeze(-1).to(states.dtype) * states).sum(1)


def _reversed_order(mask: Bool[Tensor, "row step"]) -> Int64[Tensor, "row step"]:
    """Per row the real steps backwards, then padding; applied twice it changes nothing."""
    step = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - step, step)


def _in_order(
    steps: Float[Tensor, "row step dim"], order: Int64[Tensor, "row step"]
) -> Float[Tensor, "row step dim"]:
    return steps.gather(1, order.unsqueeze(-1).expand_as(steps))
