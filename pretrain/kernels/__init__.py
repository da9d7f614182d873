"""Fused operations, one a file, each with a plain twin that specifies it.

Comes in: tensors. Goes out: the same tensors, updated, the loss of some rows, or changed pictures.
The twins are in `reference`; the loss has its own in `pretrain.loss`, the pictures theirs in
`pretrain.views.photometric`.
The only package that imports triton; it knows no model and no schedule.
"""

from pretrain.kernels.adamw import adamw_ema_
from pretrain.kernels.choice import Kernels, chosen, require, runs_fused, using
from pretrain.kernels.ema import ema_update_
from pretrain.kernels.lars import LarsTable, lars_ema_
from pretrain.kernels.layers import LarsEma, Layers, lars_numbers
from pretrain.kernels.loss import fused_all_pairs_loss, fused_weighted_loss
from pretrain.kernels.numbers import StepNumbers, ema_numbers
from pretrain.kernels.partition import AdamwEma, FlatPartition, adamw_numbers
from pretrain.kernels.photometric import CHANGES, check_pictures, fused_photometric
from pretrain.kernels.table import TensorTable

__all__ = [
    "CHANGES",
    "AdamwEma",
    "FlatPartition",
    "Kernels",
    "LarsEma",
    "LarsTable",
    "Layers",
    "StepNumbers",
    "TensorTable",
    "adamw_ema_",
    "adamw_numbers",
    "check_pictures",
    "chosen",
    "ema_numbers",
    "ema_update_",
    "fused_all_pairs_loss",
    "fused_photometric",
    "fused_weighted_loss",
    "lars_ema_",
    "lars_numbers",
    "require",
    "runs_fused",
    "using",
]
