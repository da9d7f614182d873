"""What tests of checkpoints share."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from pretrain.checkpoint import Part


def weights(value: float = 1.0, size: int = 4) -> Part:
    """A part of two files; training never changes it."""

    def write(folder: Path) -> None:
        (folder / "backbone").mkdir()
        save_file({"w": np.full(size, value)}, folder / "backbone" / "model.safetensors")
        (folder / "config.json").write_text("{}")

    return lambda: write


def names(run: Path) -> list[str]:
    """All that lies where the checkpoints of a run do."""
    return sorted(path.name for path in (run / "checkpoints").iterdir())
