"""What the three encoders' configurations share: where a tower starts and how it learns."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """Start and pace of one modality's encoder. It belongs to a run, not to the architecture."""

    modality: ClassVar[str]
    """Name of the part in options and messages."""

    warm_encoders: ClassVar[tuple[str, ...]]
    """Encoders that can start from a checkpoint, because they are transformers' classes."""

    encoder: str
    """Name of the encoder."""

    initial: Path | None = None
    """Folder of a local transformers checkpoint to start from; None starts from random weights.
    Only at a run's first step: a saved backbone loads without it."""

    frozen: bool = False
    """Keep the encoder as it starts: no gradient, and batch norms in evaluation mode."""

    learning_rate_scale: float = 1.0
    """Factor on this encoder's learning rate, positive; below 1 for a warm-started one."""

    def __post_init__(self) -> None:
        if not self.learning_rate_scale > 0.0:
            raise ValueError(
                f"{self.modality}.learning_rate_scale must be positive, got "
                f"{self.learning_rate_scale}"
            )
        if self.initial is not None and self.encoder not in self.warm_encoders:
            raise ValueError(
                f"{self.modality}.initial: {self.encoder} cannot start from a checkpoint; only "
                f"{', '.join(self.warm_encoders)} can"
            )

    def require(self, holds: bool, message: str) -> None:
        """Refuse a value.

        Raises:
            ValueError: ``holds`` is false; with the modality before ``message``.
        """
        if not holds:
            raise ValueError(f"{self.modality}.{message}")
