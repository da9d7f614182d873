"""Counts what a piece of code launches, and what it keeps for its backward pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

FREE = ("empty", "new_empty", "lift_fresh", "_unsafe_view", "_reshape_alias")
"""Operators that only allocate or look elsewhere, beside those that torch calls views."""
KERNELS = {
    "_loss_triton": ("loss_kernel", "scale_kernel"),
    "_ema_triton": ("ema_kernel",),
    "_lars_triton": ("norms_kernel", "lars_kernel"),
    "_photometric_triton": ("mean_kernel", "photometric_kernel"),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one part of a step."""

    operators: int
    triton_launches: int
    launches: int
    """Both together."""
    saved_bytes: int
    """Of what the backward pass keeps beside the arguments; a storage counts once."""


class Counter(TorchDispatchMode):
    """Counts operators that compute within it, and launches of Triton kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.operators, self.triton_launches = 0, 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        name = func._schema.name.partition("::")[2]
        self.operators += not (func.is_view or name.startswith(FREE))
        return func(*args, **(kwargs or {}))

    def launched(
        self, run: Callable[..., object], arguments: Sequence[Any], options: Mapping[str, Any]
    ) -> None:
        """Run a kernel, whose interpreter's own operators do not count."""
        self.triton_launches += 1
        with _disable_current_modes():
            run(*arguments, **options)


class CountedKernel:
    """A Triton kernel that tells a counter of its launches."""

    def __init__(self, kernel: Any, counter: Counter) -> None:  # noqa: ANN401
        self._kernel, self._counter = kernel, counter

    def __getitem__(self, grid: Sequence[int]) -> Callable[..., None]:
        run = self._kernel[grid]
        return lambda *arguments, **options: self._counter.launched(run, arguments, options)


@contextmanager
def counted() -> Iterator[Counter]:
    """Counts what is launched within it."""
    counter = Counter()
    modules = {file: import_module(f"pretrain.kernels.{file}") for file in KERNELS}
    places = [(modules[file], name) for file, names in KERNELS.items() for name in names]
    kernels = [getattr(module, name) for module, name in places]
    for (module, name), kernel in zip(places, kernels, strict=True):
        setattr(module, name, CountedKernel(kernel, counter))
    try:
        with counter:
            yield counter
    finally:
        for (module, name), kernel in zip(places, kernels, strict=True):
            setattr(module, name, kernel)


def cost_of(run: Callable[[], object], arguments: Sequence[Tensor] = ()) -> Cost:
    """What a part costs; ``arguments`` and what shares their memory is not kept by it."""
    known = {tensor.untyped_storage().data_ptr() for tensor in arguments}
    kept: dict[int, Tensor] = {}  # the tensors too, so that no address is used again

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with counted() as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    sizes = [t.untyped_storage().nbytes() for address, t in kept.items() if address not in known]
    return Cost(
        operators=counter.operators,
        triton_launches=counter.triton_launches,
        launches=counter.operators + counter.triton_launches,
        saved_bytes=sum(sizes),
    )
