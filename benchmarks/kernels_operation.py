"""What an operation is that `kernels_timed` times, and how large its tensors are."""

from collections.abc import Callable
from dataclasses import dataclass

Run = Callable[[], object]
FUSED, COMPILED = "ours", "compile"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing to do, and ways to do it."""

    name: str
    candidates: dict[str, Run]
    """By name, over tensors of the same sizes: ``eager`` and ours among them."""
    needed_bytes: int
    """What it cannot do without: every input read once, every output written once."""
    tensors: int
    entries: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the tensors are."""

    width: int
    layers: int
    """Of the ViT whose tensors are the many."""
    flat: int
    """Entries of a flat partition."""
    batch: int
    """Samples: rows of a loss, and pictures of each of two views."""
    embed: int
    pixels: int
    """Side of a picture."""


ON_GPU = Sizes(width=768, layers=12, flat=277_000_000, batch=256, embed=256, pixels=224)
"""A ViT-B, and a partition of three of them."""
ON_CPU = Sizes(width=384, layers=12, flat=10_000_000, batch=16, embed=256, pixels=224)
TINY = Sizes(width=8, layers=1, flat=2_500, batch=2, embed=16, pixels=8)
