"""What loader workers do to a sample: two random crops of picture and recording."""

from dataclasses import dataclass

import torch

from data_sharding.batch import DecodedSample, SampleTensors
from pretrain.models import BackboneConfig
from pretrain.models.preprocess import fit_clip, fit_tokens
from pretrain.views.augment import ViewsConfig
from pretrain.views.image import random_resized_crop
from pretrain.views.random import view_generator


@dataclass(frozen=True, kw_only=True)
class TrainCrops:
    """Two crops of picture and recording per sample; text stays whole. Picklable."""

    seed: int
    size_pixels: int
    crop_scale: tuple[float, float]
    clip_samples: int
    max_tokens: int

    @classmethod
    def from_configs(
        cls, views: ViewsConfig, backbone: BackboneConfig, sample_rate_hz: int, seed: int
    ) -> "TrainCrops":
        """The crops that a run with these settings makes."""
        return cls(
            seed=seed,
            size_pixels=backbone.image.size_pixels,
            crop_scale=views.image.crop_scale,
            clip_samples=round(views.audio.crop_seconds * sample_rate_hz),
            max_tokens=backbone.text.max_tokens,
        )

    def __call__(self, sample: DecodedSample) -> SampleTensors:
        """Fixed shapes; zeros for a missing modality."""
        image = torch.zeros(2, 3, self.size_pixels, self.size_pixels, dtype=torch.uint8)
        waveform = torch.zeros(2, self.clip_samples)
        for view in range(2):
            key = (self.seed, sample.epoch, sample.sample_id, view)
            if sample.image is not None:
                generator = view_generator(*key, "crop_image")
                image[view] = random_resized_crop(
                    sample.image, self.size_pixels, self.crop_scale, generator
                )
            if sample.waveform is not None:
                generator = view_generator(*key, "crop_audio")
                slack = max(0, len(sample.waveform) - self.clip_samples)
                start = int(generator.integers(slack + 1))
                waveform[view] = fit_clip(sample.waveform, start, self.clip_samples)
        token_ids, token_mask = fit_tokens(sample.token_ids, self.max_tokens)
        return SampleTensors(
            token_ids=token_ids, token_mask=token_mask, image=image, waveform=waveform
        )
