"""A batch of crops -> the two views of every modality."""

from dataclasses import dataclass, field
from pathlib import Path

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
from pretrain.views.audio_level import change_level
from pretrain.views.audio_masks import mask_log_mel
from pretrain.views.checks import check_probability
from pretrain.views.image import ImageViewConfig, photometric
from pretrain.views.natural import NaturalViewConfig
from pretrain.views.random import Purpose, view_generator
from pretrain.views.text import TextViewConfig, text_view
from pretrain.views.vocabulary import TextVocabulary


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
    natural: NaturalViewConfig = field(default_factory=NaturalViewConfig)
    subset: SubsetConfig = field(default_factory=SubsetConfig)

    def vocabulary(self, tokenizer_file: Path) -> TextVocabulary:
        """What the text views need of a tokenizer.

        Raises:
            ValueError: as `TextVocabulary.load`.
        """
        return TextVocabulary.load(tokenizer_file, self.text.all_protected())


class Augment:
    """Turns a TripleBatch, cut by `TrainCrops`, into `Views`.

    Args:
        config: What is changed, and how much.
        log_mel: Waveform to log-mel, as the backbone's.
        vocabulary: Of the batches' token ids; `ViewsConfig.vocabulary` makes it.
        seed: Of the run.
    """

    def __init__(
        self, config: ViewsConfig, log_mel: LogMel, vocabulary: TextVocabulary, seed: int
    ) -> None:
        self._config = config
        self._log_mel = log_mel
        self._vocabulary = vocabulary
        self._seed = seed

    def __call__(self, batch: TripleBatch) -> Views:
        """Two views of every sample of this rank's part of a global batch.

        Raises:
            ValueError: mixup's group does not divide the batch.
        """
        self._config.audio.check_share(len(batch))
        tokens = [self._text(batch, view) for view in range(2)]
        return Views(
            token_ids=torch.stack([ids for ids, _ in tokens]),
            token_mask=torch.stack([mask for _, mask in tokens]),
            image=torch.stack([self._image(batch, view) for view in range(2)]),
            log_mel=torch.stack([self._audio(batch, view) for view in range(2)]),
            present=batch.present,
            subset=torch.stack([self._subset(batch, view) for view in range(2)]),
            complete=bool(batch.present.all()),
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
        generators = zip(
            self._generators(batch, view, "text"),
            self._generators(batch, view, "text_words"),
            strict=True,
        )
        pairs = [
            text_view(
                batch.token_ids[row, view],
                batch.token_mask[row, view],
                view,
                self._config.text,
                self._vocabulary,
                pair,
            )
            for row, pair in enumerate(generators)
        ]
        return torch.stack([ids for ids, _ in pairs]), torch.stack([mask for _, mask in pairs])

    def _image(self, batch: TripleBatch, view: int) -> Tensor:
        pictures = [
            photometric(batch.image[row, view], view, self._config.image, generator)
            for row, generator in enumerate(self._generators(batch, view, "image"))
        ]
        return to_unit_range(torch.stack(pictures))

    def _audio(self, batch: TripleBatch, view: int) -> Tensor:
        """Changes of the waveform, of the log-mel with its group, of each log-mel alone."""
        config = self._config.audio
        levels = self._generators(batch, view, "audio_level")
        waveforms = [
            change_level(batch.waveform[row, view], view, config.level, generator)
            for row, generator in enumerate(levels)
        ]
        log_mel = self._log_mel(torch.stack(waveforms))  # [batch, mel, frame]
        generators = self._generators(batch, view, "audio")
        chances = [
            tuple((generator.random(3) < config.chances(view)).tolist())
            for generator in self._generators(batch, view, "audio_chance")
        ]
        if config.mixup_ratio:
            log_mel = self._mixed(log_mel, [mix for mix, _, _ in chances], generators)
        masks = self._generators(batch, view, "audio_masks")
        clips = [
            augment_clip(clip, config, (crop, fade), generator)
            for clip, (_, crop, fade), generator in zip(log_mel, chances, generators, strict=True)
        ]
        return torch.stack(
            [
                mask_log_mel(clip, view, config.masks, generator)
                for clip, generator in zip(clips, masks, strict=True)
            ]
        )

    def _mixed(
        self, log_mel: Tensor, chosen: list[bool], generators: list[np.random.Generator]
    ) -> Tensor:
        """Each clip with another of its group; one that is not chosen with a ratio of 0."""
        config = self._config.audio
        draws = [
            (
                generator.uniform(0.0, config.mixup_ratio),
                int(generator.integers(config.mixup_group)),
            )
            for generator in generators
        ]
        ratios = torch.tensor(
            [ratio * mix for (ratio, _), mix in zip(draws, chosen, strict=True)],
            dtype=log_mel.dtype,
        )
        return mixup(log_mel, config.mixup_group, ratios, [shift for _, shift in draws])

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
