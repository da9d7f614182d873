"""Token ids -> one embedding per text."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Int64
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from pretrain.models.encoded import Encoded


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """A BERT trained from scratch (Devlin et al. 2019, arXiv 1810.04805)."""

    encoder: Literal["bert"] = "bert"
    """`bert`: transformers' BertModel, mean over its tokens."""

    hidden_size: int = 128
    """Width, and the dimension of the embedding."""

    num_layers: int = 2
    """Transformer blocks."""

    num_heads: int = 4
    """Attention heads; divides the width."""

    max_tokens: int = 32
    """Longest text in tokens, [CLS] and [SEP] included; longer ones are cut."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"text.hidden_size {self.hidden_size} is not a multiple of "
                f"text.num_heads {self.num_heads}"
            )
        if self.max_tokens < 3:
            raise ValueError(f"text.max_tokens must be at least 3, got {self.max_tokens}")


class BertText(nn.Module):
    """BERT with the mean of its token states as embedding.

    Dropout is off: views come from `pretrain.views`, keyed by the sample, so that a resumed
    run draws the same ones.
    """

    def __init__(self, config: TextConfig, vocab_size: int) -> None:
        super().__init__()
        self.embed_dim = self.token_dim = config.hidden_size
        self.model = BertModel(
            BertConfig(
                vocab_size=vocab_size,
                hidden_size=config.hidden_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=4 * config.hidden_size,
                max_position_embeddings=config.max_tokens,
                type_vocab_size=1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )

    def forward(
        self, token_ids: Int64[Tensor, "batch token"], token_mask: Bool[Tensor, "batch token"]
    ) -> Encoded:
        """Mean of the token states under the mask; zeros for a text without tokens."""
        # A row without any token would make every attention weight undefined.
        attended = token_mask.clone()
        attended[:, 0] = True
        states = self.model(input_ids=token_ids, attention_mask=attended).last_hidden_state
        weights = token_mask.unsqueeze(-1).to(states.dtype)  # [batch, token, 1]
        pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        return Encoded(pooled=pooled, tokens=states, token_mask=token_mask)
