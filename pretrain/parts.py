"""Parts of a checkpoint: copied at a step boundary, written while training goes on."""

from collections.abc import Callable
from pathlib import Path

Write = Callable[[Path], None]
"""Writes its files into a folder, in another thread and without any collective."""

Part = Callable[[], Write]
"""Called on every rank between two steps: copies what training will change to host memory.

It must not be collective. A failure of it is told to the other ranks with the receipts, after all
parts; the others would wait for this rank inside the part, for ever.
"""
