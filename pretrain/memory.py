"""Bytes of weights and what belongs to them on one rank, at each ZeRO stage: pure arithmetic.

`benchmarks/zero.py` holds `kept_bytes` against what a rank's tensors really take.
"""

from dataclasses import dataclass
from typing import Literal

BUCKET_ENTRIES = 50_000_000
"""Most gradient entries that are reduced at once. Stage 3 makes the buffer whole at its start,
however small the network is; DeepSpeed's own half a billion are 2 GB in float32."""

FLATTENED_ENTRIES = 500_000_000
"""Gradient entries that stage 0 lays side by side to reduce them: DeepSpeed's own bound."""

GATHERED_ENTRIES = 1_000_000_000
"""Weights that stage 3 keeps whole at most, once they were gathered: DeepSpeed's own bound."""

MASTER_BYTES = 4.0
"""Of an entry of a master or a moment, which are float32."""


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Entries of the two networks' weights.

    Attributes:
        online: Trained ones of the online network.
        target: Those of the target that follow them.
        frozen: Ones that neither moves; both networks have them.
        moments: Numbers that the optimizer keeps for each trained entry.
    """

    online: int
    target: int
    frozen: int = 0
    moments: int = 2


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """How the weights lie on the ranks."""

    zero_stage: Literal[0, 1, 2, 3]
    precision: Literal["fp32", "bf16"]
    ranks: int

    @property
    def width(self) -> float:
        """Bytes of an entry of the working weights."""
        return 2.0 if self.precision == "bf16" else 4.0

    @property
    def sharers(self) -> int:
        """Ranks that share the optimizer's state out."""
        return self.ranks if self.zero_stage > 0 else 1


@dataclass(frozen=True, kw_only=True)
class KeptBytes:
    """What lies on a rank between two steps."""

    weights: float
    """Of both networks, as forward passes read them."""

    masters: float
    """The float32 masters of both."""

    moments: float
    """The optimizer's."""

    gradients: float
    """What stage 3 keeps of them: its part, and the buffer in which they are reduced."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.masters + self.moments + self.gradients


def kept_bytes(sizes: NetworkSizes, sharing: Sharing) -> KeptBytes:
    """What lies on a rank after a step.

    In float32 the weights and the target are their own masters where a rank has them whole.
    """
    stage, width, sharers = sharing.zero_stage, sharing.width, sharing.sharers
    whole = sharing.precision == "fp32"
    online_masters = 0.0 if whole and stage == 0 else MASTER_BYTES * sizes.online / sharers
    target_masters = 0.0 if whole and stage < 3 else MASTER_BYTES * sizes.target / sharers
    frozen_masters = 0.0 if whole else MASTER_BYTES * sizes.frozen
    online = (sizes.online + sizes.frozen) / (sharing.ranks if stage == 3 else 1)
    return KeptBytes(
        weights=width * (online + sizes.target + sizes.frozen),
        masters=online_masters + target_masters + frozen_masters,
        moments=MASTER_BYTES * sizes.moments * sizes.online / sharers,
        gradients=width * sizes.online / sharing.ranks + _bucket(sizes, sharing)
        if stage == 3
        else 0.0,
    )


def passing_bytes(sizes: NetworkSizes, sharing: Sharing, activations: float) -> float:
    """The most that a step needs beside that, and gives back: in the largest of its three parts.

    Forward and backward passes hold activations, gradients in the working dtype (whole up to
    stage 1) and the buckets that they are reduced in; the optimizer, gradients and the part of
    them that the rank steps, in float32; the target's update, the buffer that it is gathered in.
    DeepSpeed's part was read off the tensors of two ranks.

    Args:
        sizes: Of the networks.
        sharing: How they lie on the ranks.
        activations: Bytes of one micro-batch's, with its views.
    """
    stage, width = sharing.zero_stage, sharing.width
    whole = sharing.precision == "fp32"
    gradients = width * sizes.online / (sharing.ranks if stage > 1 else 1)
    bucket = _bucket(sizes, sharing)
    buffers = {
        0: width * min(sizes.online, FLATTENED_ENTRIES),
        1: bucket,
        2: 2 * bucket,  # one is filled while the other's gradients come
        3: bucket + width * min(sizes.online + sizes.frozen, GATHERED_ENTRIES),
    }[stage]
    # Stage 3 keeps its part of the gradients between the steps too.
    passes = activations + buffers + (gradients if stage < 3 else 0.0)
    stepped = 0.0 if whole and stage == 0 else MASTER_BYTES * sizes.online / sharing.sharers
    shared_target = stage == 3 or (stage > 0 and not whole)
    gathered = width * sizes.target * (1 + 1 / sharing.ranks) if shared_target else 0.0
    return max(passes, gradients + stepped, gathered)


def _bucket(sizes: NetworkSizes, sharing: Sharing) -> float:
    return sharing.width * min(sizes.online, BUCKET_ENTRIES)
