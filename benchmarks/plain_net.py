"""A network without data, for benchmarks of what stands around it."""

from torch import Tensor, nn


class PlainNet(nn.Module):
    """Layers of one width; the loss is of no meaning."""

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(num_layers)]
        self.layers = nn.Sequential(*layers)

    def forward(self, rows: Tensor) -> Tensor:
        """Mean square of the last layer, in float32."""
        return self.layers(rows).float().square().mean()
