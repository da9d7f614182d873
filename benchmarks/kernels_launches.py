"""What pictures and layers launch, with the plain twins and with the kernels."""

import torch
from kernels_counted import Cost, cost_of

from pretrain.kernels import (
    CHANGES,
    Kernels,
    LarsEma,
    LarsTable,
    Layers,
    lars_ema_,
    lars_numbers,
    using,
)
from pretrain.views.image import ImageViewConfig
from pretrain.views.photometric import ImageChanges, photometric

PICTURES, PIXELS, LAYERS = 4, 16, 30
BOTH: tuple[Kernels, ...] = ("reference", "fused")


def pictures_costs() -> dict[str, Cost]:
    """Every change of one view of a few pictures; each would take as much again."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (1, PICTURES, 3, PIXELS, PIXELS), dtype=torch.uint8)
    row = torch.tensor([1.0, 1.2, 0.8, 1.1, 0.05, 1.0, 1.0, 1.0])
    assert len(row) == len(CHANGES)
    changes = ImageChanges(rows=row.expand(1, PICTURES, -1).clone())
    found = {}
    for kernels in BOTH:
        with using(kernels):
            cost = cost_of(lambda: photometric(images, changes, ImageViewConfig()))
            found[f"views of {PICTURES} pictures, {kernels}"] = cost
    return found


def layers_costs() -> dict[str, Cost]:
    """A step of LARS on layers of one group, after one that made the table."""
    torch.manual_seed(0)
    weights, slopes, velocities = (torch.randn(3, LAYERS, 40)[i].unbind() for i in range(3))
    layers = Layers(parameters=weights, gradients=slopes, velocities=velocities)
    changing = torch.tensor(lars_numbers(0.1, weight_decay=0.1))
    numbers = LarsEma(changing=changing, momentum=0.9, trust_coefficient=0.01)
    table, found = LarsTable(), {}
    for kernels in BOTH:
        with using(kernels):
            lars_ema_(layers, numbers, table)
            cost = cost_of(lambda: lars_ema_(layers, numbers, table))
            found[f"LARS of {LAYERS} layers, {kernels}"] = cost
    return found
