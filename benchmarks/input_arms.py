"""From a JPEG, a recording and a text to views: our stages, and pictures as others do them.

A part of `input.py`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import v2

from data_sharding.batch import DecodedSample, TripleBatch, collate
from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.logmel import LogMel
from data_sharding.reading.reader import ShardReader
from data_sharding.schema import RawSample
from data_sharding.stats import CorpusStats
from data_sharding.stream.source import open_stream
from pretrain.models import BackboneConfig, ImageConfig
from pretrain.views import Augment, ImageViewConfig, TrainCrops, ViewsConfig
from pretrain.views.audio_changes import audio_views
from pretrain.views.photometric import draw_changes, photometric

SIDE = 224
VIEWS = ViewsConfig(
    image=ImageViewConfig(
        crop_scale=(0.08, 1.0), blur_probability=(1.0, 0.1), solarize_probability=(0.0, 0.2)
    )
)
"""BYOL's own (Grill et al. 2020, appendix B); sound and text as they are by default."""

BACKBONE = BackboneConfig(image=ImageConfig(size_pixels=SIDE))


def with_grain(fields: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture of 500 x 375 with some grain."""
    smooth = np.asarray(fields.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float64)
    pixels = np.clip(smooth + rng.normal(0.0, 8.0, smooth.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def processor_seconds(work: Callable[[], object], items: int) -> Callable[[], float]:
    """A run that returns this process's own seconds for each item."""

    def timed() -> float:
        began = time.process_time()
        work()
        return (time.process_time() - began) / items

    return timed


class Ours:
    """The path of a sample, whole and by stages, on one core.

    Args:
        folder: A shard set with statistics.
        count: Samples of a batch; a multiple of mixup's group.
    """

    def __init__(self, folder: Path, count: int) -> None:
        stats = CorpusStats.load(folder / "stats")
        rate, tokenizer_file = stats.log_mel.sample_rate_hz, folder / "stats" / "tokenizer.json"
        self.count = count
        self.decoder = Decoder(tokenizer_file, DecodeConfig(sample_rate_hz=rate))
        self.crops = TrainCrops.from_configs(VIEWS, BACKBONE, tokenizer_file, rate, 0)
        self.augment = Augment(VIEWS, LogMel(stats.log_mel), 0)
        self._reader = ShardReader(open_stream(folder).sets)
        self._log_mel = LogMel(stats.log_mel)
        self._ids = [number % len(self._reader) for number in range(count)]
        raw = [self._reader.read(number) for number in self._ids]
        self.pictures = [_only(sample, True) for sample in raw]
        self._others = [_only(sample, False) for sample in raw]
        self._raw = raw
        decoded = [self.decoder.decode(sample) for sample in raw]
        self._images = [replace(sample, token_ids=None, waveform=None) for sample in decoded]
        self._texts = [replace(sample, image=None, waveform=None) for sample in decoded]
        self._clips = [replace(sample, image=None, token_ids=None) for sample in decoded]
        self._batch = collate(decoded, [self.crops(sample) for sample in decoded])

    def stages(self) -> dict[str, Callable[[], object]]:
        """What happens to a batch, one thing after another; the first five in a loader's worker."""
        return {
            "read": lambda: [self._reader.read(number) for number in self._ids],
            "decode picture": lambda: self._decode(self.pictures),
            "decode sound, text": lambda: self._decode(self._others),
            "crop picture": lambda: self._cut(self._images),
            "cut sound": lambda: self._cut(self._clips),
            "text views": lambda: self._cut(self._texts),
            "draws": self._draw,
            "photometric": lambda: self._photometric(self._batch),
            "log-mel, audio": self._audio,
        }

    def picture_cropped(self) -> None:
        """What a run with a GPU leaves to the CPU of a picture: decoding, crops, all draws."""
        self._cut(self._decode(self.pictures))
        self._draw()

    def picture_changed(self) -> None:
        """All of a picture's views on the CPU."""
        images = self._decode(self.pictures)
        self._photometric(collate(images, self._cut(images)))

    def triple_cropped(self) -> None:
        """What a run with a GPU leaves to the CPU of a triple."""
        samples = self._decode(self._raw)
        collate(samples, self._cut(samples))
        self._draw()

    def triple_changed(self) -> None:
        """All of a triple's views on the CPU."""
        samples = self._decode(self._raw)
        self.augment(collate(samples, self._cut(samples)))

    def _decode(self, raw: Sequence[RawSample]) -> list[DecodedSample]:
        return [self.decoder.decode(sample) for sample in raw]

    def _cut(self, samples: Sequence[DecodedSample]) -> list:
        return [self.crops(sample) for sample in samples]

    def _draw(self) -> dict:
        batch = self._batch
        return dict(self.augment.draw(batch.sample_ids, batch.epochs, batch.image.device))

    def _photometric(self, batch: TripleBatch) -> Tensor:
        changes = draw_changes(self._draw()["image"], VIEWS.image)
        return photometric(batch.image.transpose(0, 1), changes, VIEWS.image)

    def _audio(self) -> Tensor:
        waveform = self._batch.waveform.transpose(0, 1)
        return audio_views(waveform, self._draw(), VIEWS.audio, self._log_mel)


def _only(sample: RawSample, picture: bool) -> RawSample:
    """A sample with its picture alone, or with everything else."""
    kept = {suffix: part for suffix, part in sample.members.items() if (suffix == "jpg") == picture}
    return replace(sample, members=kept)


class Peer:
    """BYOL's two views of a PIL picture by torchvision's transforms, as it is commonly done.

    Args:
        blur: `pillow`'s own, which lightly and solo-learn take (a few box filters, about the same
            blur); or torchvision's of 23 x 23 taps, which is what the paper says.
    """

    def __init__(self, blur: str) -> None:
        self._views = [_transform(blur, 1.0, 0.0), _transform(blur, 0.1, 0.2)]

    def __call__(self, pictures: Sequence[RawSample]) -> list[Tensor]:
        """Decodes and changes each."""
        views = []
        for sample in pictures:
            picture = Image.open(BytesIO(sample.members["jpg"])).convert("RGB")
            views += [view(picture) for view in self._views]
        return views


def _transform(blur: str, blur_probability: float, solarize_probability: float) -> v2.Transform:
    image = VIEWS.image
    jitter = v2.ColorJitter(image.brightness, image.contrast, image.saturation, image.hue)
    blurs = _PillowBlur() if blur == "pillow" else v2.GaussianBlur(23, image.blur_sigma)
    return v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, image.crop_scale),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([jitter], image.jitter_probability),
            v2.RandomGrayscale(image.grayscale_probability),
            v2.RandomApply([blurs], blur_probability),
            v2.RandomSolarize(image.solarize_threshold, solarize_probability),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


class _PillowBlur(torch.nn.Module):
    def forward(self, picture: Image.Image) -> Image.Image:
        low, high = VIEWS.image.blur_sigma
        radius = low + (high - low) * torch.rand(()).item()
        return picture.filter(ImageFilter.GaussianBlur(radius=radius))
