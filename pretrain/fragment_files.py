"""Sharded state on disk: safetensors, an entry for every fragment, for any number of readers.

A folder holds ``rank-00000.safetensors`` and so on, one for each rank that had something to
write. An entry's key is ``kind/start/name``: of the parameter ``name``, flattened, its entries
from ``start`` on. Kinds are ``master``, the names of an optimizer's moments, and whatever else
the writer keeps. No pickles; a reader needs neither the number of ranks nor how they shared.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pretrain.fragments import Fragment
from pretrain.parts import Write


def entries(kind: str, fragments: Iterable[Fragment]) -> dict[str, Tensor]:
    """Fragments as `snapshot` takes them."""
    return {f"{kind}/{f.start}/{f.name}": f.value for f in fragments}


def whole_entries(kind: str, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Whole tensors of any shape and dtype as `snapshot` takes them."""
    return {f"{kind}/0/{name}": tensor.detach() for name, tensor in tensors}


def snapshot(
    folder: str, rank: int, state: Mapping[str, Tensor], about: Mapping[str, str]
) -> Write:
    """Copy a rank's entries to host memory; the result writes them.

    Args:
        folder: Sub-folder of the checkpoint.
        rank: Names the file; a rank without entries writes none.
        state: From `entries` and `whole_entries`.
        about: What `FragmentReader.about` gives back.
    """
    copies = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in state.items()}

    def write(checkpoint: Path) -> None:
        if copies:
            path = checkpoint / folder
            path.mkdir(parents=True, exist_ok=True)
            save_file(copies, path / f"rank-{rank:05d}.safetensors", metadata=dict(about))

    return write


class FragmentReader:
    """Reads any stretch of what any number of ranks wrote.

    Args:
        folder: The sub-folder that `snapshot` wrote.

    Raises:
        ValueError: there are no such files, or one cannot be read; it is named.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pieces: dict[tuple[str, str], list[tuple[int, safe_open, str]]] = {}
        self.about: dict[str, str] = {}
        paths = sorted(folder.glob("rank-?????.safetensors"))
        if not paths:
            raise ValueError(f"{folder}: holds no state of a run")
        for path in paths:
            try:
                file = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path}: cannot be read: {error}") from error
            self.about |= file.metadata() or {}
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                kind, start, name = key.split("/", 2)
                self._pieces.setdefault((kind, name), []).append((int(start), file, key))
        self.kinds = {kind for kind, _ in self._pieces}

    def has(self, kind: str, name: str) -> bool:
        """Whether there is an entry of this kind and name."""
        return (kind, name) in self._pieces

    def check(self, kind: str, sizes: Mapping[str, int]) -> None:
        """Whether the state is of parameters with these numbers of entries.

        Raises:
            ValueError: it is of others; the first that differs is named.
        """
        found = {name: self._size(kind, name) for other, name in self._pieces if other == kind}
        if differing := sorted(dict(found.items() ^ sizes.items())):
            name = differing[0]
            raise ValueError(
                f"{self._folder}: not the state of this network: {kind} of {name} has "
                f"{found.get(name, 'no')} entries there and {sizes.get(name, 'no')} here"
            )

    def _size(self, kind: str, name: str) -> int:
        shapes = [(s, file.get_slice(key).get_shape()) for s, file, key in self._pieces[kind, name]]
        return max(start + math.prod(shape) for start, shape in shapes)

    def tensor(self, kind: str, name: str) -> Tensor:
        """A tensor that was written whole, as it was.

        Raises:
            ValueError: there is none.
        """
        found = self._pieces.get((kind, name))
        if found is None:
            raise ValueError(f"{self._folder}: no {kind} of {name}")
        _, file, key = found[0]
        return file.get_tensor(key)

    def fill(self, kind: str, fragment: Fragment) -> None:
        """Read the fragment's stretch into its memory.

        Raises:
            ValueError: not every entry of it was written.
        """
        begin, end = fragment.start, fragment.start + fragment.value.numel()
        filled = begin
        for start, file, key in sorted(
            self._pieces.get((kind, fragment.name), []), key=lambda piece: piece[0]
        ):
            piece = file.get_slice(key)
            stop = min(end, start + piece.get_shape()[0])
            if start <= filled < stop:
                values = piece[filled - start : stop - start]
                fragment.value[filled - begin : stop - begin].copy_(values)
                filled = stop
        if filled < end:
            raise ValueError(
                f"{self._folder}: {kind} of {fragment.name} has no entries {filled} to {end}"
            )
