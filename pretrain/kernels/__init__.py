"""Fused operations, one a file, each with a plain twin that specifies it.

Comes in: tensors. Goes out: the same tensors, updated, or the loss of some rows. The twins are in
`reference`; the loss has its own in `pretrain.loss`.
The only package that imports triton; it knows no model and no schedule.
"""

from pretrain.kernels.adamw import adamw_ema_
from pretrain.kernels.choice import Kernels, runs_fused, using
from pretrain.kernels.ema import ema_update_
from pretrain.kernels.loss import fused_all_pairs_loss, fused_weighted_loss
from pretrain.kernels.partition import AdamwEma, FlatPartition
from pretrain.kernels.table import TensorTable

__all__ = [
    "AdamwEma",
    "FlatPartition",
    "Kernels",
    "TensorTable",
    "adamw_ema_",
    "ema_update_",
    "fused_all_pairs_loss",
    "fused_weighted_loss",
    "runs_fused",
    "using",
]
