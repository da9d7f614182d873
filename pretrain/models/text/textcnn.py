"""TextCNN: convolutions of several widths over word vectors."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from pretrain.models.encoded import Encoded, Encoder
from pretrain.models.text.config import TextConfig
from pretrain.models.text.vocabulary import Vocabulary


class TextCnn(Encoder):
    """Per width a convolution and ReLU; the maximum of each filter over the text.

    A window begins at every real token and reads zeros past the end, so that a text shorter
    than a window still has one. The paper's dropout is left out: views are the noise.

    Source: Kim 2014, arXiv 1408.5882.
    """

    def __init__(self, config: TextConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.embed_dim = self.token_dim = len(config.kernel_widths) * config.num_filters
        self.widths = config.kernel_widths
        self.words = nn.Embedding(vocabulary.size, config.hidden_size)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.hidden_size, config.num_filters, width) for width in self.widths
        )

    def forward(
        self, token_ids: Int64[Tensor, "batch token"], token_mask: Bool[Tensor, "batch token"]
    ) -> Encoded:
        """Maximum over windows; zeros for a text without tokens."""
        real = token_mask.unsqueeze(1)  # [batch, 1, token]
        words = self.words(token_ids).transpose(1, 2) * real  # [batch, hidden, token]
        maps = [
            convolution(F.pad(words, (0, width - 1))).relu()
            for width, convolution in zip(self.widths, self.convolutions, strict=True)
        ]
        # After ReLU nothing is below 0, so the zeros of padding never win.
        windows = torch.cat(maps, dim=1) * real  # [batch, embed, token]
        return Encoded(
            pooled=windows.amax(2), tokens=windows.transpose(1, 2), token_mask=token_mask
        )
