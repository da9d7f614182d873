"""A small convolutional net: the cheapest image encoder here."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.encoded import Encoded, Encoder
from pretrain.models.image.config import ImageConfig

GROUPS = 4


class SmallCnn(Encoder):
    """Four blocks of 3x3 convolution, group norm, ReLU and max-pool; mean over places.

    Group norm: the same features whatever else is in the batch, on any number of ranks.

    Source: LeCun et al. 1998, Gradient-based learning applied to document recognition; norm by
    Wu & He 2018, arXiv 1803.08494.
    """

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.embed_dim = self.token_dim = config.width
        channels = [3, *(config.width // share for share in (8, 4, 2, 1))]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1),
                    nn.GroupNorm(GROUPS, after),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
                for before, after in pairwise(channels)
            )
        )

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Encoded:
        """Mean over the places of the last map."""
        places = self.blocks(image).flatten(2).transpose(1, 2)
        return Encoded.of_whole(places.mean(1), places)
