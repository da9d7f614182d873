"""VGG-16: thirteen 3x3 convolutions in five blocks."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.encoded import Encoded, Encoder
from pretrain.models.image.batch_norm import BatchNorm
from pretrain.models.image.config import ImageConfig

BLOCKS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Per block: channels in eighths of the last, and number of convolutions; a max-pool after."""


class Vgg16Image(Encoder):
    """The convolutions of configuration D with the mean over places as embedding.

    Each convolution is followed by a batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167), as in
    torchvision's ``vgg16_bn``: without any norm so deep a net does not train from random
    weights (the paper starts it from a shallower one). What `ResNetImage` says of batch norm
    holds here. The fully connected layers are left out; pictures from 32 pixels on.

    Source: Simonyan & Zisserman 2015, arXiv 1409.1556.
    """

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.embed_dim = self.token_dim = config.width
        channels = [config.width // 8 * eighths for eighths, count in BLOCKS for _ in range(count)]
        ends = {sum(count for _, count in BLOCKS[: index + 1]) for index in range(len(BLOCKS))}
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise([3, *channels]), start=1):
            layers += [nn.Conv2d(before, after, 3, padding=1), BatchNorm(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if number in ends else []
        self.features = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Encoded:
        """Mean over the places of the last map."""
        places = self.features(image).flatten(2).transpose(1, 2)
        return Encoded.of_whole(places.mean(1), places)
