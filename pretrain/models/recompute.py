"""Activation checkpointing of encoders: compute twice, keep little.

Source: Chen et al. 2016, arXiv 1604.06174.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from pretrain.models.encoded import Encoded


def recomputes_itself(encoder: nn.Module) -> bool:
    """Switch on transformers' own recomputation, block by block; False where there is none."""
    model = getattr(encoder, "model", None)
    if not getattr(model, "supports_gradient_checkpointing", False):
        return False
    model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[union-attr]
    return True


def recomputing(encoder: nn.Module, *inputs: Tensor) -> Encoded:
    """The encoder's output; what lies between is computed again in the backward pass."""
    return checkpoint(  # type: ignore[return-value]
        encoder,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,  # no encoder draws random numbers
        context_fn=partial(_contexts, encoder),
    )


def _contexts(
    encoder: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _without_running_statistics(encoder)


@contextmanager
def _without_running_statistics(encoder: nn.Module) -> Iterator[None]:
    """Within it batch norms see a batch without learning from it: they have seen it before."""
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
