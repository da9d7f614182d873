"""How long a rank takes to make the views of a sample, measured on this machine."""

import time
from pathlib import Path

import torch

from data_sharding.batch import TripleBatch
from data_sharding.logmel import LogMel
from data_sharding.schema import MODALITIES
from data_sharding.stats import CorpusStats
from pretrain.config import PretrainConfig
from pretrain.views import Augment

TRIALS = 3
FEWEST = 4
"""Samples; where recordings are mixed, one group of them."""


def view_seconds(config: PretrainConfig, stats: CorpusStats, tokenizer_file: Path) -> float:
    """One core's seconds for both views of a sample, the fastest of a few trials.

    Each rank makes them between its steps, of what the loader's workers have cropped; what this
    machine takes is a first guess at what the run's nodes will.

    Raises:
        ValueError: the tokenizer cannot be read.
    """
    audio = config.views.audio
    augment = Augment(
        config.views, LogMel(stats.log_mel), config.views.vocabulary(tokenizer_file), config.seed
    )
    batch = _noise(config, stats, audio.mixup_group if audio.mixup_ratio else FEWEST)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(_processor_seconds(augment, batch) for _ in range(TRIALS)) / len(batch)
    finally:
        torch.set_num_threads(threads)


def _processor_seconds(augment: Augment, batch: TripleBatch) -> float:
    began = time.process_time()
    augment(batch)
    return time.process_time() - began


def _noise(config: PretrainConfig, stats: CorpusStats, samples: int) -> TripleBatch:
    """A batch as `TrainCrops` cuts it."""
    backbone, generator = config.backbone, torch.Generator().manual_seed(0)
    tokens, side = (samples, 2, backbone.text.max_tokens), backbone.image.size_pixels
    clip = round(config.views.audio.crop_seconds * stats.log_mel.sample_rate_hz)
    return TripleBatch(
        keys=tuple(str(number) for number in range(samples)),
        sample_ids=torch.arange(samples),
        epochs=torch.zeros(samples, dtype=torch.int64),
        token_ids=torch.randint(stats.vocab_size, tokens, generator=generator),
        token_mask=torch.ones(tokens, dtype=torch.bool),
        image=torch.randint(
            256, (samples, 2, 3, side, side), generator=generator, dtype=torch.uint8
        ),
        waveform=torch.rand(samples, 2, clip, generator=generator) - 0.5,
        present=torch.ones(samples, len(MODALITIES), dtype=torch.bool),
        valid=torch.ones(samples, dtype=torch.bool),
    )
