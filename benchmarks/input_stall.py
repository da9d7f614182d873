"""What share of a step waits for data: the loader, the copies and the views around a ViT-B/16.

A part of `input.py`; the step is both views forward and back and a second pass without gradients,
which is the arithmetic of a BYOL step.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from input_arms import BACKBONE, VIEWS
from torch import Tensor, nn
from torchvision.models import vit_b_16

from data_sharding.batch import TripleBatch
from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.logmel import LogMel
from data_sharding.stats import CorpusStats
from data_sharding.stream.loader import LoaderConfig, TripleLoader
from data_sharding.stream.order import OrderConfig, Slice
from data_sharding.stream.source import open_stream
from pretrain.prefetch import media_to, prefetched
from pretrain.views import Augment, TrainCrops

ORDER = OrderConfig(block_samples=8, window_blocks=4, lanes=4)


@dataclass(frozen=True, kw_only=True)
class Stall:
    """Sizes of the measurement."""

    workers: int
    batch: int = 256
    steps: int = 20
    warmup_steps: int = 5


def measure_stall(
    folder: Path, device: torch.device, sizes: Stall, encoder: nn.Module | None = None
) -> dict[str, object]:
    """Median seconds of a step, and how much of them was spent on asking for the batch.

    Args:
        folder: A shard set with statistics.
        device: Where the step runs.
        sizes: Of batch and loader.
        encoder: Pictures to anything; ViT-B/16 if None.
    """
    stats = CorpusStats.load(folder / "stats")
    rate, tokenizer_file = stats.log_mel.sample_rate_hz, folder / "stats" / "tokenizer.json"
    loader = TripleLoader(
        open_stream(folder),
        Decoder(tokenizer_file, DecodeConfig(sample_rate_hz=rate)),
        TrainCrops.from_configs(VIEWS, BACKBONE, tokenizer_file, rate, 0),
        Slice(global_batch=sizes.batch),
        LoaderConfig(num_workers=sizes.workers, prefetch_batches=8, order=ORDER),
    )
    augment = Augment(VIEWS, LogMel(stats.log_mel).to(device), 0, dtype=torch.bfloat16)
    step = _Step(augment, (encoder or vit_b_16()).to(device), device)
    found: dict[str, object] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "workers": sizes.workers,
        "batch": sizes.batch,
    }
    try:
        ahead = _paced(prefetched(loader.batches(), device), step, sizes)
        found |= {"stall_share": ahead[0], "step_seconds": ahead[1], "views_seconds": step.views}
        plain = _paced(loader.batches(), step, sizes)
        found |= {"stall_share_without_prefetch": plain[0], "step_seconds_without": plain[1]}
    finally:
        loader.close()
    return found


def _paced(batches: Iterator[TripleBatch], step: "_Step", sizes: Stall) -> tuple[float, float]:
    """The share of the time that was waited, and the seconds of a step."""
    waited = began = 0.0
    for number in range(sizes.warmup_steps + sizes.steps):
        if number == sizes.warmup_steps:
            waited, began = 0.0, time.perf_counter()
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        step(batch)
    taken = time.perf_counter() - began
    return waited / taken, taken / sizes.steps


class _Step:
    """Views, forward, back and an update; the device has done all of it when it returns."""

    def __init__(self, augment: Augment, encoder: nn.Module, device: torch.device) -> None:
        self._augment = augment
        self._encoder = encoder
        self._device = device
        self._optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, fused=True)
        self.views = 0.0
        """Seconds that the last batch's copy and views took, until the device had done them."""

    def __call__(self, batch: TripleBatch) -> None:
        began = time.perf_counter()
        views = self._augment(media_to(batch, self._device))
        pictures = views.image.flatten(0, 1)
        self._wait(pictures)
        self.views = time.perf_counter() - began
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            with torch.no_grad():
                self._encoder(pictures)
            loss = self._encoder(pictures).float().square().mean()
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._wait(loss)

    def _wait(self, value: Tensor) -> None:
        """As a real step does, which looks at its loss."""
        value.flatten()[0].item()
