"""BERT: a transformer over word pieces."""

from jaxtyping import Bool, Int64
from torch import Tensor

from pretrain.models.encoded import Encoded, Encoder
from pretrain.models.text.config import TextConfig
from pretrain.models.text.vocabulary import Vocabulary


class BertText(Encoder):
    """BERT with the mean of its token states as embedding.

    Dropout is off: views come from `pretrain.views`, keyed by the sample, so that a resumed
    run draws the same ones.

    Source: Devlin et al. 2019, arXiv 1810.04805.
    """

    def __init__(self, config: TextConfig, vocabulary: Vocabulary) -> None:
        # Imported late: it takes seconds, and most commands make no encoder.
        from transformers import BertConfig, BertModel

        super().__init__()
        self.embed_dim = self.token_dim = config.hidden_size
        self.model = BertModel(
            BertConfig(
                vocab_size=vocabulary.size,
                hidden_size=config.hidden_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=4 * config.hidden_size,
                max_position_embeddings=config.max_tokens,
                type_vocab_size=1,
                use_cache=False,
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
