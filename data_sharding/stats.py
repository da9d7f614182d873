"""One pass over a train split: vocabulary, image and log-mel statistics.

They travel with the shard set (``stats/tokenizer.json``, ``stats/stats.json``) and with the
backbone, because a model is worth nothing without the numbers its input was scaled by.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from data_sharding.checkpoint_tokenizer import checkpoint_tokenizer
from data_sharding.decode import DecodeConfig, decode_audio, decode_image
from data_sharding.durable import write_durably
from data_sharding.logmel import LogMel, LogMelConfig
from data_sharding.progress import track
from data_sharding.reading.reader import ShardReader
from data_sharding.schema import (
    DEFAULT_SPLIT,
    PARTS,
    Buffer,
    DecodeError,
    SampleFault,
    ShardError,
    modality_of,
)
from data_sharding.storage import is_remote
from data_sharding.stream.source import open_stream
from data_sharding.stream.substitution import FaultBudget, FaultCount, fault_of
from data_sharding.vocabulary import VocabularyConfig, train_tokenizer

LOGGER = logging.getLogger(__name__)

STATS_FOLDER = "stats"
STATS_FILE = "stats.json"
TOKENIZER_FILE = "tokenizer.json"
MEDIA_SUFFIXES = tuple(name for name, part in PARTS.items() if part in ("image", "audio"))
TEXT_SUFFIXES = tuple(name for name, part in PARTS.items() if modality_of(part) == "text")
MIN_STD = 1e-3
"""A constant channel must not be blown up by its own scale."""


@dataclass(frozen=True, kw_only=True)
class StatsConfig:
    """What is measured on the train split of a shard set."""

    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    """How texts are cut into word pieces."""

    tokenizer: Path | None = None
    """Take this tokenizer in place of learning one: the folder of a transformers checkpoint that a
    text encoder is to start from, or its tokenizer.json or vocab.txt. It must be a WordPiece that
    frames a text with [CLS] and [SEP]. `vocabulary` then counts for nothing."""

    log_mel: LogMelConfig = field(default_factory=LogMelConfig)
    """Geometry of the spectrograms whose mean and deviation are measured."""

    max_texts: int = 1_000_000
    """Samples whose texts the vocabulary is trained on, spread evenly over the split."""

    max_media_samples: int = 20_000
    """Samples whose image and audio are decoded, spread evenly over the split."""

    def __post_init__(self) -> None:
        if self.max_texts < 1 or self.max_media_samples < 1:
            raise ValueError(
                "max_texts and max_media_samples must be at least 1, got "
                f"{self.max_texts} and {self.max_media_samples}"
            )


@dataclass(frozen=True, kw_only=True)
class CorpusStats:
    """Statistics of a train split. A missing modality has mean 0 and deviation 1.

    Attributes:
        image_mean: Mean of each colour channel, on a scale of 0..1 (uint8 / 255).
        image_std: Standard deviation of each colour channel on that scale.
        mel_mean: Mean of the log-mel values.
        mel_std: Standard deviation of the log-mel values.
        vocab_size: Word pieces in tokenizer.json.
        num_samples: Samples of the split.
        log_mel: Geometry of the spectrograms.
    """

    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    mel_mean: float
    mel_std: float
    vocab_size: int
    num_samples: int
    log_mel: LogMelConfig

    @classmethod
    def load(cls, folder: Path) -> "CorpusStats":
        """Reads ``stats.json`` from a folder.

        Raises:
            ShardError: It is missing or malformed.
        """
        path = folder / STATS_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["log_mel"] = LogMelConfig(**content["log_mel"])
            content["image_mean"] = tuple(content["image_mean"])
            content["image_std"] = tuple(content["image_std"])
            return cls(**content)
        except FileNotFoundError as error:
            raise ShardError(f"{path} does not exist; make it with `triptych stats`") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ShardError(f"{path}: malformed ({error!r})") from error

    def save(self, folder: Path) -> None:
        """Writes ``stats.json`` into a folder."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        write_durably(folder / STATS_FILE, text.encode("utf-8"))


class Moments:
    """Mean and standard deviation over items that count alike, whatever their size."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sums = np.zeros((2, channels))

    def add(self, values: Float[Tensor, "channel value"]) -> None:
        """Adds one item, such as a picture of three channels."""
        exact = values.double()
        self._count += 1
        self._sums += torch.stack([exact.mean(1), exact.square().mean(1)]).numpy()

    def mean_and_std(
        self,
    ) -> tuple[Float64[np.ndarray, "channel"], Float64[np.ndarray, "channel"]]:
        """Mean and deviation of each channel; 0 and 1 when nothing was added."""
        if not self._count:
            return self._sums[0], np.ones_like(self._sums[0])
        mean, square = self._sums / self._count
        return mean, np.maximum(np.sqrt(np.maximum(square - mean**2, 0.0)), MIN_STD)


def compute_stats(
    location: Path | str,
    config: StatsConfig,
    out: Path | None = None,
    split: str = DEFAULT_SPLIT,
) -> CorpusStats:
    """Measures one split of a shard set, or of all sets of a blend.

    Each picture and each recording counts alike, because training crops one fixed-size view from
    each, however large it is. So does each sample of a blend, whatever the weight of its set.
    A bad sample is left out; too many of them fail.

    Args:
        location: Folder or URL of a shard set or a blend.
        config: What to measure.
        out: Folder for the two files; None is ``stats`` inside a local `location`.
        split: The split to measure; what is learned from.

    Raises:
        ShardError: The location is none of both, has no such split, a shard cannot be had, or
            too many samples are bad.
        ValueError: The location is remote and `out` is not given; the tokenizer to take is none.
    """
    target = stats_folder(str(location), out)
    taken = config.tokenizer and checkpoint_tokenizer(config.tokenizer)
    source = open_stream(location, split)
    reader = ShardReader(source.sets)
    tokenizer = taken or train_tokenizer(_texts(reader, config.max_texts), config.vocabulary)
    pixels, mels = _measure_media(reader, config)
    reader.close()
    image_mean, image_std = pixels.mean_and_std()
    mel_mean, mel_std = mels.mean_and_std()
    stats = CorpusStats(
        image_mean=_triple(image_mean),
        image_std=_triple(image_std),
        mel_mean=float(mel_mean[0]),
        mel_std=float(mel_std[0]),
        vocab_size=tokenizer.get_vocab_size(),
        num_samples=source.num_samples,
        log_mel=config.log_mel,
    )
    target.mkdir(parents=True, exist_ok=True)
    write_durably(target / TOKENIZER_FILE, tokenizer.to_str(pretty=True).encode("utf-8"))
    stats.save(target)
    return stats


def stats_folder(location: str, given: Path | None = None) -> Path:
    """Where the statistics of a shard set or a blend lie: as given, or inside a local one.

    Raises:
        ValueError: The location is remote and no folder is given.
    """
    if given is not None:
        return given
    if is_remote(location):
        raise ValueError(
            f"{location} is remote, so its statistics lie in a local folder; say which. They are "
            f"made with `triptych stats {location} --out stats`"
        )
    return Path(location) / STATS_FOLDER


def _measured(
    reader: ShardReader, chosen: list[int], label: str, measure: Callable[[int], None]
) -> None:
    """Measures some samples; bad ones are counted, said and left out."""
    faults = FaultCount(FaultBudget(), "the log above")
    for sample_id in track(chosen, label, len(chosen)):
        found = []
        try:
            measure(sample_id)
        except (SampleFault, DecodeError) as error:
            found.append(fault_of(reader, sample_id, error))
            LOGGER.warning("%s; left out of the statistics", found[0])
        faults.add(1, found)


def _texts(reader: ShardReader, most: int) -> list[str]:
    texts = []

    def measure(sample_id: int) -> None:
        raw = reader.read(sample_id, TEXT_SUFFIXES)
        texts.extend(_decode_text(text, f"{raw.key}.{name}") for name, text in raw.members.items())

    _measured(reader, _spread(len(reader), most), "reading texts", measure)
    return texts


def _measure_media(reader: ShardReader, config: StatsConfig) -> tuple[Moments, Moments]:
    pixels, mels = Moments(3), Moments(1)
    log_mel = LogMel(config.log_mel)
    decode = DecodeConfig(sample_rate_hz=config.log_mel.sample_rate_hz)

    def measure(sample_id: int) -> None:
        raw = reader.read(sample_id, MEDIA_SUFFIXES)
        for suffix, encoded in raw.members.items():
            try:
                if PARTS[suffix] == "image":
                    pixels.add(decode_image(encoded, suffix).flatten(1) / 255.0)
                else:
                    mels.add(_log_mel_values(decode_audio(encoded, decode), log_mel))
            except DecodeError as error:
                raise DecodeError(f"{raw.key}.{suffix}: {error}") from error

    chosen = _spread(len(reader), config.max_media_samples)
    _measured(reader, chosen, "measuring images and audio", measure)
    return pixels, mels


def _decode_text(encoded: Buffer, name: str) -> str:
    """The text of a member.

    Raises:
        DecodeError: It is not UTF-8; the message names the member as `Decoder.decode` does.
    """
    try:
        return bytes(encoded).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(f"{name}: not UTF-8: {error}") from error


def _log_mel_values(waveform: Float[Tensor, "time"], log_mel: LogMel) -> Float[Tensor, "1 value"]:
    """All log-mel values of a clip; one shorter than a window is padded with silence."""
    lacking = max(0, log_mel.config.n_fft - len(waveform))
    return log_mel(F.pad(waveform, (0, lacking))).reshape(1, -1)


def _spread(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly spaced."""
    chosen = min(count, most)
    return [place * count // chosen for place in range(chosen)]


def _triple(values: Float64[np.ndarray, "3"]) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue
