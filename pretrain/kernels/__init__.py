"""Fused operations, one a file, each with a plain twin in `reference` that specifies it.

Comes in: tensors. Goes out: the same tensors, updated.
The only package that imports triton; it knows no model and no schedule.
"""

from pretrain.kernels.ema import ema_update_

__all__ = ["ema_update_"]
