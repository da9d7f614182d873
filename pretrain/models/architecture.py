"""The configuration of a backbone, and what a saved one tells of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pretrain.models.audio import AudioConfig
from pretrain.models.fusion import FusionConfig
from pretrain.models.image import ImageConfig
from pretrain.models.text import TextConfig
from pretrain.models.tower import TowerConfig


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """One encoder per modality, and their fusion."""

    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)

    @property
    def towers(self) -> dict[str, TowerConfig]:
        """The encoders' configurations by modality, in the canonical order."""
        return {"text": self.text, "image": self.image, "audio": self.audio}

    def with_absolute_paths(self) -> "BackboneConfig":
        """The same architecture, whatever folder it is read from."""
        return replace(
            self,
            **{
                name: replace(tower, initial=tower.initial.absolute())
                for name, tower in self.towers.items()
                if tower.initial is not None
            },
        )


def saved_parts(config: BackboneConfig) -> dict[str, dict[str, Any]]:
    """The architecture as plain JSON values.

    Left out is where a run's towers started and how they learned: that folder need not exist
    where the backbone is loaded.
    """
    of_run = {part.name for part in fields(TowerConfig)} - {"encoder"}
    return {
        part: {name: value for name, value in values.items() if name not in of_run}
        for part, values in asdict(config).items()
    }


def config_from_parts(parts: Mapping[str, Mapping[str, Any]]) -> BackboneConfig:
    """What `saved_parts` wrote, read back from JSON, where a tuple is a list."""
    exact: dict[str, dict[str, Any]] = {
        part: {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        for part, values in parts.items()
    }
    return BackboneConfig(
        text=TextConfig(**exact["text"]),
        image=ImageConfig(**exact["image"]),
        audio=AudioConfig(**exact["audio"]),
        fusion=FusionConfig(**exact["fusion"]),
    )
