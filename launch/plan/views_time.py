"""What the views of a sample take of a processor, measured on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from data_sharding.batch import DecodedSample, collate
from data_sharding.logmel import LogMel
from data_sharding.stats import CorpusStats
from launch.plan.chapter import Chapter
from pretrain.config import PretrainConfig
from pretrain.views import Augment, TrainCrops

TRIALS = 3
FEWEST = 4
"""Samples whose views are made; where recordings are mixed, one group of them."""

DRAWN = 256
"""Samples of which the random numbers are drawn, at once: as many as a rank has in a step."""

PICTURE_PIXELS = (375, 500)
RECORDING_SECONDS = 10
"""What crops are cut from."""


@dataclass(frozen=True, kw_only=True)
class ViewSeconds:
    """One core's seconds for both views of a sample, by who spends them.

    Attributes:
        cutting: A loader's worker, on crops and text views; decoding is not counted.
        drawing: A rank, on random numbers: all that is left to it where it has a GPU.
        making: A rank without a GPU, on everything after the crops.
    """

    cutting: float
    drawing: float
    making: float

    def tell(self, chapter: Chapter, with_gpu: bool) -> None:
        """Who makes the views, and how long each is busy with a sample."""
        own, task = (self.drawing, "random numbers") if with_gpu else (self.making, "all the rest")
        chapter.tell(
            "views",
            f"{1e3 * self.cutting:.2g} ms a sample of a loader's worker for crops and texts, "
            f"decoding not counted; {1e3 * own:.2g} ms of the rank itself for {task}"
            + (", its GPU does the rest" if with_gpu else "")
            + " (one core of this machine)",
        )


def view_seconds(config: PretrainConfig, stats: CorpusStats, tokenizer_file: Path) -> ViewSeconds:
    """The fastest of a few trials; a first guess at what the run's nodes will take.

    Raises:
        ValueError: the tokenizer cannot be read.
    """
    audio = config.views.audio
    rate = stats.log_mel.sample_rate_hz
    crops = TrainCrops.from_configs(
        config.views, config.backbone, tokenizer_file, rate, config.seed
    )
    augment = Augment(config.views, LogMel(stats.log_mel), config.seed)
    count = audio.mixup_group if audio.mixup_ratio else FEWEST
    samples = [_noise(config, stats, number) for number in range(count)]
    batch = collate(samples, [crops(sample) for sample in samples])
    ids, epochs = torch.arange(DRAWN), torch.zeros(DRAWN, dtype=torch.int64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return ViewSeconds(
            cutting=_fastest(lambda: [crops(sample) for sample in samples]) / count,
            drawing=_fastest(lambda: augment.draw(ids, epochs, ids.device)) / DRAWN,
            making=_fastest(lambda: augment(batch)) / count,
        )
    finally:
        torch.set_num_threads(threads)


def _fastest(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(TRIALS):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def _noise(config: PretrainConfig, stats: CorpusStats, number: int) -> DecodedSample:
    """A sample as it is decoded, with the longest text."""
    generator = torch.Generator().manual_seed(number)
    heard = RECORDING_SECONDS * stats.log_mel.sample_rate_hz
    length = (config.backbone.text.max_tokens,)
    return DecodedSample(
        key=str(number),
        sample_id=number,
        epoch=0,
        token_ids=torch.randint(stats.vocab_size, length, generator=generator),
        image=torch.randint(256, (3, *PICTURE_PIXELS), generator=generator, dtype=torch.uint8),
        waveform=torch.rand(heard, generator=generator) - 0.5,
        text=None,
        metadata=None,
    )
