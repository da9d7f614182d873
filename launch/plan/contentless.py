"""Modes under which torch works on tensors without content, and counts what it does.

Attention is counted as GPUs and CPUs do it, without its matrix of scores in memory.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils import _device
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that were made within it and are still held.

    Attributes:
        now: At this moment.
        most: At the worst one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.now -= size


class _Unread(TorchDispatchMode):
    """A tensor without content cannot be looked at; who asks is told "no".

    transformers asks whether a mask may be left out, torchaudio whether a filter is empty.
    """

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        if func is aten._local_scalar_dense.default:
            return 0
        return func(*args, **(kwargs or {}))


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    return aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]


@contextmanager
def without_content() -> Iterator[None]:
    """Within it, new tensors have shapes and no content, and nothing asks for any.

    Attention is done as devices do it: left alone, torch would write all scores out. What stands
    for it is put into torch's own place, for a mode would not reach what a backward pass computes
    again.
    """
    # transformers swaps `torch.linspace` while it loads weights; had torch made its list of what
    # makes tensors just then, the true one would not be on it, and would make real ones.
    _device._device_constructors.cache_clear()
    whole = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = _fused_attention
    try:
        with torch.device("meta"), _Unread():
            yield
    finally:
        F.scaled_dot_product_attention = whole


@contextmanager
def gradients_dropped(module: nn.Module) -> Iterator[None]:
    """Within it no gradient is kept: ZeRO's stage says what becomes of one."""

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    trained = [p for p in module.parameters() if p.requires_grad]
    handles = [p.register_post_accumulate_grad_hook(drop) for p in trained]
    yield
    for handle in handles:
        handle.remove()


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401
    batch, heads, rows, width = query
    return 2 * batch * heads * rows * key[2] * (width + value[3])


def _backward_flops(gradient: Any, query: Any, key: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401
    batch, heads, rows, width = query  # five products: the scores are computed again
    return 2 * batch * heads * rows * key[2] * 5 * width


ATTENTION_FLOPS = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_flops,
}
"""torch counts those of a GPU's kernels alone; arguments come as shapes."""
