"""LSTM: word pieces one after the other."""

from jaxtyping import Bool, Int64
from torch import Tensor, nn

from pretrain.models.encoded import Encoded, Encoder
from pretrain.models.text.config import TextConfig
from pretrain.models.text.vocabulary import Vocabulary


class LstmText(Encoder):
    """Embedding, LSTM, hidden state at the last real token.

    It reads forwards, so padding after the last real token cannot reach that state; no row is
    packed, and no length leaves the device.

    Source: Hochreiter & Schmidhuber 1997, Neural Computation 9(8), 1735-1780.
    """

    def __init__(self, config: TextConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.embed_dim = self.token_dim = config.hidden_size
        self.words = nn.Embedding(vocabulary.size, config.hidden_size)
        self.lstm = nn.LSTM(
            config.hidden_size, config.hidden_size, config.num_layers, batch_first=True
        )

    def forward(
        self, token_ids: Int64[Tensor, "batch token"], token_mask: Bool[Tensor, "batch token"]
    ) -> Encoded:
        """Hidden state of the last layer; zeros for a text without tokens."""
        states, _ = self.lstm(self.words(token_ids))  # [batch, token, embed]
        length = token_mask.sum(1)
        last = (length - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
        pooled = states.gather(1, last).squeeze(1) * (length > 0).unsqueeze(1)
        return Encoded(pooled=pooled, tokens=states, token_mask=token_mask)
