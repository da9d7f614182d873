"""What loader workers do to a sample: two random crops of picture and recording, two text views."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from data_sharding.batch import DecodedSample, SampleTensors
from pretrain.models import BackboneConfig
from pretrain.models.preprocess import fit_clip, fit_tokens
from pretrain.views.augment import ViewsConfig
from pretrain.views.image import random_resized_crop
from pretrain.views.natural import NaturalViewConfig, draw_alternatives
from pretrain.views.random import Purpose, view_generator
from pretrain.views.text import TextViewConfig, text_view
from pretrain.views.vocabulary import TextVocabulary


@dataclass(frozen=True, kw_only=True)
class TrainCrops:
    """Two crops of picture and recording and two text views per sample. Picklable.

    Where a sample has alternatives, the two views may show different ones.
    """

    seed: int
    size_pixels: int
    crop_scale: tuple[float, float]
    clip_samples: int
    max_tokens: int
    vocabulary: TextVocabulary
    text: TextViewConfig = field(default_factory=TextViewConfig)
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    natural: NaturalViewConfig = field(default_factory=NaturalViewConfig)

    @classmethod
    def from_configs(
        cls,
        views: ViewsConfig,
        backbone: BackboneConfig,
        tokenizer_file: Path,
        sample_rate_hz: int,
        seed: int,
    ) -> "TrainCrops":
        """The crops that a run with these settings makes.

        Args:
            views: What is cut, and how texts are changed.
            backbone: What its encoders read.
            tokenizer_file: The decoder's.
            sample_rate_hz: Of the decoder's waveforms.
            seed: Of the run.

        Raises:
            ValueError: the text views cannot be made with this tokenizer.
        """
        return cls(
            seed=seed,
            size_pixels=backbone.image.size_pixels,
            crop_scale=views.image.crop_scale,
            clip_samples=round(views.audio.crop_seconds * sample_rate_hz),
            max_tokens=backbone.text.max_tokens,
            vocabulary=views.vocabulary(tokenizer_file),
            text=views.text,
            crop_aspect=views.image.crop_aspect,
            natural=views.natural,
        )

    def __call__(self, sample: DecodedSample) -> SampleTensors:
        """Fixed shapes; zeros for a missing modality."""
        shown = self._shown(sample, "text", sample.token_ids)
        texts = [self._text(sample, view, token_ids) for view, token_ids in enumerate(shown)]
        pictures = self._shown(sample, "image", sample.image)
        clips = self._shown(sample, "audio", sample.waveform)
        return SampleTensors(
            token_ids=torch.stack([ids for ids, _ in texts]),
            token_mask=torch.stack([mask for _, mask in texts]),
            image=torch.stack([self._crop(sample, v, part) for v, part in enumerate(pictures)]),
            waveform=torch.stack([self._cut(sample, v, part) for v, part in enumerate(clips)]),
        )

    def _shown(
        self, sample: DecodedSample, modality: str, first: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """What each view shows of a modality."""
        if first is None:
            return None, None
        parts = (first, *sample.alternatives.get(modality, ()))
        chance = getattr(self.natural, modality)
        one, other = draw_alternatives(
            self.seed, sample.epoch, sample.sample_id, modality, len(parts), chance
        )
        return parts[one], parts[other]

    def _text(
        self, sample: DecodedSample, view: int, token_ids: Int64[Tensor, " token"] | None
    ) -> tuple[Int64[Tensor, " length"], Bool[Tensor, " length"]]:
        ids, mask = fit_tokens(token_ids, self.max_tokens)
        if token_ids is None:
            return ids, mask
        generators = (
            self._generator(sample, view, "text"),
            self._generator(sample, view, "text_words"),
        )
        return text_view(ids, mask, view, self.text, self.vocabulary, generators)

    def _crop(
        self, sample: DecodedSample, view: int, image: UInt8[Tensor, "3 height width"] | None
    ) -> UInt8[Tensor, "3 side side"]:
        if image is None:
            return torch.zeros(3, self.size_pixels, self.size_pixels, dtype=torch.uint8)
        generator = self._generator(sample, view, "crop_image")
        return random_resized_crop(
            image, self.size_pixels, self.crop_scale, self.crop_aspect, generator
        )

    def _cut(
        self, sample: DecodedSample, view: int, waveform: Float32[Tensor, " time"] | None
    ) -> Float32[Tensor, " clip"]:
        if waveform is None:
            return torch.zeros(self.clip_samples)
        slack = max(0, len(waveform) - self.clip_samples)
        start = int(self._generator(sample, view, "crop_audio").integers(slack + 1))
        return fit_clip(waveform, start, self.clip_samples)

    def _generator(self, sample: DecodedSample, view: int, purpose: Purpose) -> np.random.Generator:
        return view_generator(self.seed, sample.epoch, sample.sample_id, view, purpose)
