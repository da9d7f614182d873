"""A sheet of samples with the views that training makes of them: for the report and by itself."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from tokenizers import Tokenizer
from torch import Tensor

from data_sharding.batch import DecodedSample, SampleTensors, SampleTransform, TripleBatch
from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.logmel import LogMel
from data_sharding.schema import MODALITIES
from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from data_sharding.stream.loader import TripleLoader
from data_sharding.stream.order import Slice
from data_sharding.stream.source import open_stream
from launch.views_media import draw_picture, draw_spectrogram, encode_sound
from pretrain.config import PretrainConfig
from pretrain.models import Views, preprocess_for
from pretrain.views import Augment, TextVocabulary, TrainCrops

NUM_SAMPLES = 8
HEARD_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class SheetSample:
    """One sample as it is, and its two views; pictures and sounds are data URIs.

    A missing modality is an empty text and no views.

    Attributes:
        key: Shard and row.
        texts: The text and its alternatives.
        text_views: With [MASK] where a view hides a token.
        image: The whole picture, in the encoder's size.
        image_views: What the encoder sees, before its normalisation.
        spectrogram: Of the beginning of the recording.
        spectrogram_views: What the encoder sees, before its normalisation.
        sound: The beginning of the recording.
        sound_views: The two clips, before anything is mixed into them.
        alternatives: Modality -> number of further ones that the views draw from.
    """

    key: str
    texts: list[str]
    text_views: list[str]
    image: str
    image_views: list[str]
    spectrogram: str
    spectrogram_views: list[str]
    sound: str
    sound_views: list[str]
    alternatives: dict[str, int]

    def for_report(self) -> dict[str, Any]:
        """What ``views.json`` holds of it: no sound, which would make a report heavy."""
        record = {
            name: value for name, value in asdict(self).items() if not name.startswith("sound")
        }
        return {**record, "text": self.texts[0] if self.texts else ""}


class KeepOriginals:
    """The run's crops, and what they were cut from kept aside; for a loader without workers.

    Args:
        cut: The run's transform.
        epoch: Epoch whose views are drawn; None is each sample's own.
    """

    def __init__(self, cut: SampleTransform, epoch: int | None) -> None:
        self.originals: list[DecodedSample] = []
        self._cut = cut
        self._epoch = epoch

    def __call__(self, sample: DecodedSample) -> SampleTensors:
        """The crops."""
        self.originals.append(sample)
        at_epoch = sample if self._epoch is None else replace(sample, epoch=self._epoch)
        return self._cut(at_epoch)


class SheetDrawer:
    """Draws samples of a run's data with the run's views; nothing is trained.

    Args:
        config: Data, views and input sizes of the run.

    Raises:
        ShardError: the shards or their statistics are not there.
        ValueError: the views do not fit the data.
    """

    def __init__(self, config: PretrainConfig) -> None:
        stats = CorpusStats.load(config.data.stats_folder)
        tokenizer_file = config.data.stats_folder / TOKENIZER_FILE
        self.config = config
        self.sample_rate_hz = stats.log_mel.sample_rate_hz
        self._tokenizer_file = tokenizer_file
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._vocabulary = config.views.vocabulary(tokenizer_file)
        self._log_mel = LogMel(stats.log_mel)
        self._whole = preprocess_for(config.backbone, stats)
        self._augment = Augment(config.views, self._log_mel, config.seed)

    @property
    def mask_token(self) -> str:
        """What stands for a hidden token in the views' texts."""
        token = self._tokenizer.id_to_token(self._vocabulary.mask_id)
        assert token is not None
        return token

    def draw(self, num_samples: int = NUM_SAMPLES, epoch: int | None = None) -> list[SheetSample]:
        """The first samples of the run's first batches.

        Args:
            num_samples: How many; fewer are decoded than a global batch holds.
            epoch: Epoch whose views are drawn; None is the one that each sample is in.
        """
        config, rate = self.config, self.sample_rate_hz
        cut = TrainCrops.from_configs(
            config.views, config.backbone, self._tokenizer_file, rate, config.seed
        )
        keep = KeepOriginals(cut, epoch)
        loader = TripleLoader(
            open_stream(config.data.shards, config.data.split),
            Decoder(self._tokenizer_file, DecodeConfig(sample_rate_hz=rate, alternatives=True)),
            keep,
            share_of_batch(config, num_samples),
            replace(config.data.loader, num_workers=0),
        )
        samples: list[SheetSample] = []
        for batch in loader.batches(0):
            if epoch is not None:
                batch = replace(batch, epochs=torch.full_like(batch.epochs, epoch))
            views = self._augment(batch)
            rows = range(min(len(batch), num_samples - len(samples)))
            samples += [self._sample(keep.originals[row], batch, views, row) for row in rows]
            keep.originals.clear()
            if len(samples) == num_samples:
                break
        loader.close()
        return samples

    def _sample(
        self, original: DecodedSample, batch: TripleBatch, views: Views, row: int
    ) -> SheetSample:
        whole = self._whole(original)
        has_text, has_image, has_audio = original.present
        texts = [original.token_ids, *original.alternatives.get("text", ())]
        heard = HEARD_SECONDS * self.sample_rate_hz
        waveform = torch.zeros(0) if original.waveform is None else original.waveform[:heard]
        return SheetSample(
            key=original.key,
            texts=[self._words(ids) for ids in texts if ids is not None],
            text_views=[
                self._words(views.token_ids[view, row][views.token_mask[view, row]])
                for view in range(2 * has_text)
            ],
            image=draw_picture(whole.image[0] / 255.0) if has_image else "",
            image_views=[draw_picture(views.image[view, row]) for view in range(2 * has_image)],
            spectrogram=draw_spectrogram(self._log_mel(whole.waveform[0])) if has_audio else "",
            spectrogram_views=[
                draw_spectrogram(views.log_mel[view, row]) for view in range(2 * has_audio)
            ],
            sound=self._sound(waveform) if has_audio else "",
            sound_views=[self._sound(batch.waveform[row, v]) for v in range(2 * has_audio)],
            alternatives={name: len(original.alternatives.get(name, ())) for name in MODALITIES},
        )

    def _sound(self, waveform: Float[Tensor, " time"]) -> str:
        return encode_sound(waveform, self.sample_rate_hz)

    def _words(self, token_ids: Int64[Tensor, " token"]) -> str:
        return read_tokens(self._tokenizer, self._vocabulary, token_ids.tolist())


def write_views_sheet(config: PretrainConfig, run: Path) -> Path:
    """Write ``run/views/views.json``: some samples of the run's first batch and their two views.

    The pictures are PNG data URIs, so that the page made from them is self-contained.
    """
    samples = [sample.for_report() for sample in SheetDrawer(config).draw()]
    path = run / "views" / "views.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"samples": samples}))
    return path


def share_of_batch(config: PretrainConfig, num_samples: int) -> Slice:
    """The smallest first rank's share of a global batch that holds some samples.

    Cut as a rank's share is, the groups of mixup are the run's own.
    """
    whole, audio = config.batch.global_samples, config.views.audio
    group = audio.mixup_group if audio.mixup_ratio else 1
    fitting = [n for n in range(1, whole + 1) if whole % n == 0 and n % group == 0]
    share = next((n for n in fitting if n >= num_samples), whole)
    return Slice(global_batch=whole, rank=0, world_size=whole // share)


def read_tokens(tokenizer: Tokenizer, vocabulary: TextVocabulary, token_ids: list[int]) -> str:
    """Words with the mask token where a view has one, without [CLS] and [SEP]."""
    unknown = tokenizer.token_to_id("[UNK]")
    shown = [
        token
        for token in token_ids
        if not vocabulary.special[token] or token in (vocabulary.mask_id, unknown)
    ]
    return tokenizer.decode(shown, skip_special_tokens=False).strip()
