"""A batch of crops -> the two views of every modality."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from data_sharding.batch import TripleBatch
from data_sharding.logmel import LogMel
from data_sharding.schema import MODALITIES
from pretrain.models.inputs import Views
from pretrain.models.preprocess import to_unit_range
from pretrain.views.audio import AudioViewConfig, augment_clip, mixup
from pretrain.views.checks import check_probability
from pretrain.views.image import ImageViewConfig, photometric
from pretrain.views.random import Purpose, view_generator
from pretrain.views.text import TextViewConfig, mask_tokens


@dataclass(frozen=True, kw_only=True)
class SubsetConfig:
    """Modality dropout: what the online network's fusion may use of a sample in a view.

    The target's fusion uses everything, and the online one learns to predict it from what is
    left. Attention goes to what tells samples apart most easily; in a small corpus that is the
    text, and a fusion that may always read it learns nothing of the rest.
    """

    text: float = 0.5
    """Chance that the text may be used."""

    image: float = 0.5
    """Chance that the picture may be used."""

    audio: float = 0.5
    """Chance that the sound may be used. Where nothing is left, one modality is drawn."""

    def __post_init__(self) -> None:
        for name in MODALITIES:
            check_probability(f"subset.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """How the two views of a sample differ."""

    image: ImageViewConfig = field(default_factory=ImageViewConfig)
    audio: AudioViewConfig = field(default_factory=AudioViewConfig)
    text: TextViewConfig = field(default_factory=TextViewConfig)
    subset: SubsetConfig = field(default_factory=SubsetConfig)


class Augment:
    """Turns a TripleBatch, cut by `TrainCrops`, into `Views`.

    Args:
        config: What is changed, and how much.
        log_mel: Waveform to log-mel, as the backbone's.
        seed: Of the run.
    """

    def __init__(self, config: ViewsConfig, log_mel: LogMel, seed: int) -> None:
        self._config = config
        self._log_mel = log_mel
        self._seed = seed

    def __call__(self, batch: TripleBatch) -> Views:
        """Two views of every sample of this rank's part of a global batch.

        Raises:
            ValueError: mixup's group does not divide the batch.
        """
        group = self._config.audio.mixup_group
        if self._config.audio.mixup_ratio and len(batch) % group:
            raise ValueError(
                f"views.audio.mixup_group {group} does not divide the {len(batch)} samples of a "
                "rank; choose a divisor, or views.audio.mixup_ratio 0"
            )
        tokens = [self._text(batch, view) for view in range(2)]
        return Views(
            token_ids=torch.stack([ids for ids, _ in tokens]),
            token_mask=torch.stack([mask for _, mask in tokens]),
            image=torch.stack([self._image(batch, view) for view in range(2)]),
            log_mel=torch.stack([self._audio(batch, view) for view in range(2)]),
            present=batch.present,
            subset=torch.stack([self._subset(batch, view) for view in range(2)]),
        )

    def _generators(
        self, batch: TripleBatch, view: int, purpose: Purpose
    ) -> list[np.random.Generator]:
        return [
            view_generator(self._seed, epoch, sample_id, view, purpose)
            for epoch, sample_id in zip(
                batch.epochs.tolist(), batch.sample_ids.tolist(), strict=True
            )
        ]

    def _text(self, batch: TripleBatch, view: int) -> tuple[Tensor, Tensor]:
        config = self._config.text
        shares = (config.mask_probability[view], config.delete_probability[view])
        pairs = [
            mask_tokens(batch.token_ids[row], batch.token_mask[row], shares, generator)
            for row, generator in enumerate(self._generators(batch, view, "text"))
        ]
        return torch.stack([ids for ids, _ in pairs]), torch.stack([mask for _, mask in pairs])

    def _image(self, batch: TripleBatch, view: int) -> Tensor:
        pictures = [
            photometric(batch.image[row, view], view, self._config.image, generator)
            for row, generator in enumerate(self._generators(batch, view, "image"))
        ]
        return to_unit_range(torch.stack(pictures))

    def _audio(self, batch: TripleBatch, view: int) -> Tensor:
        config = self._config.audio
        generators = self._generators(batch, view, "audio")
        log_mel = self._log_mel(batch.waveform[:, view])  # [batch, mel, frame]
        if config.mixup_ratio:
            draws = [
                (
                    generator.uniform(0.0, config.mixup_ratio),
                    int(generator.integers(config.mixup_group)),
                )
                for generator in generators
            ]
            ratios = torch.tensor([ratio for ratio, _ in draws], dtype=log_mel.dtype)
            log_mel = mixup(log_mel, config.mixup_group, ratios, [shift for _, shift in draws])
        return torch.stack(
            [
                augment_clip(clip, config, generator)
                for clip, generator in zip(log_mel, generators, strict=True)
            ]
        )

    def _subset(self, batch: TripleBatch, view: int) -> Bool[Tensor, "batch 3"]:
        """A random non-empty subset of what each sample has."""
        keep = [getattr(self._config.subset, name) for name in MODALITIES]
        rows = []
        for present, generator in zip(
            batch.present.tolist(), self._generators(batch, view, "subset"), strict=True
        ):
            draws = generator.random(len(MODALITIES))
            row = [
                here and draw < chance
                for here, draw, chance in zip(present, draws, keep, strict=True)
            ]
            if any(present) and not any(row):
                row[int(generator.choice(np.flatnonzero(present)))] = True
            rows.append(row)
        return torch.tensor(rows, dtype=torch.bool)
