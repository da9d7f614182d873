"""Embeddings of one's own texts, pictures and recordings, from a published backbone."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import torch

from data_sharding.progress import track
from data_sharding.sources import SourceConfig
from eval.release.embed_inputs import Broken, Sample, open_inputs, read_inputs
from eval.release.embed_output import Batch, ids_file, write_npy, write_parquet
from eval.release.open_backbone import open_backbone
from pretrain.disk_room import room_named
from pretrain.models import Embedder, Embeddings
from pretrain.models.ordinary_inputs import InputError


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How inputs are read, here and by `eval.release.predict`."""

    source: SourceConfig = field(default_factory=SourceConfig)
    """Columns of tables and layout of folders, as in `triptych shard`."""
    batch_size: int = 32
    """Samples of one forward pass."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; `auto` takes a GPU when there is one."""
    skip_broken: bool = False
    """Leave out samples that cannot be read, or have nothing that a head has learned from, and name
    and count them; else the first one ends the command, and no file is written."""
    overwrite: bool = False
    """Replace the output file."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(ReadingConfig):
    """How inputs are read and embedded."""

    representation: Literal["text", "image", "audio", "fused"] = "fused"
    """What a .npy file holds; a .parquet file holds all four."""


@dataclass(kw_only=True)
class Tally:
    """What became of the samples."""

    embedded: int = 0
    skipped: int = 0


def embed(inputs: Sequence[str], backbone: Path, out: Path, config: EmbedConfig) -> Tally:
    """Embed every sample of the inputs into ``out``, which appears when it is whole.

    Args:
        inputs: Files, folders, tables.
        backbone: A published backbone, a checkpoint or a run.
        out: ``.parquet`` or ``.npy``.
        config: See there.

    Raises:
        ValueError: The output cannot be made as asked; an input that is none; a broken sample,
            unless these are skipped; no sample at all.
        OSError: Storage that keeps failing, or a full disk.
    """
    _refuse_output(out, config)
    opened = open_inputs(inputs, config.source)
    found = open_backbone(backbone)
    embedder = Embedder.load(found.folder, device_of(config.device), config.batch_size)
    tally = Tally()
    batches = embedded_batches(
        track(read_inputs(opened), "embedded, samples"), embedder, config, tally
    )
    first = next(batches, None)
    if first is None:
        raise ValueError(f"no sample to embed in {', '.join(inputs)}; {tally.skipped} are broken")
    whole = _chained(first, batches)
    with room_named(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".npy":
            write_npy(whole, config.representation, out)
        else:
            metadata = {"triptych.backbone": found.digest}
            write_parquet(whole, embedder.backbone.embed_dims, metadata, out)
    return tally


def embedded_batches(
    samples: Iterator[Sample | Broken], embedder: Embedder, config: ReadingConfig, tally: Tally
) -> Iterator[Batch]:
    """Samples and their embeddings, batch by batch; ``tally`` counts them as they come.

    Raises:
        ValueError: A broken sample, unless these are skipped.
    """
    while chunk := list(islice(samples, config.batch_size)):
        whole = []
        for sample in chunk:
            if isinstance(sample, Broken):
                _pass_over(sample, config, tally)
            else:
                whole.append(sample)
        yield from _embedded(whole, embedder, config, tally)


def encode_samples(embedder: Embedder, samples: Sequence[Sample]) -> Embeddings:
    """Embeddings of samples.

    Raises:
        InputError: One of them is broken.
    """
    return embedder.encode(
        text=[sample.text for sample in samples],
        image=[sample.image for sample in samples],
        audio=[sample.audio for sample in samples],
    )


def _embedded(
    samples: Sequence[Sample], embedder: Embedder, config: ReadingConfig, tally: Tally
) -> Iterator[Batch]:
    """The samples in one batch; where one of them is broken, each by itself."""
    if not samples:
        return
    try:
        made = encode_samples(embedder, samples)
    except InputError as error:
        if len(samples) == 1:
            broken = Broken(id=samples[0].id, source=samples[0].source, reason=str(error))
            _pass_over(broken, config, tally)
            return
        for sample in samples:
            yield from _embedded([sample], embedder, config, tally)
        return
    tally.embedded += len(samples)
    yield samples, made


def _pass_over(broken: Broken, config: ReadingConfig, tally: Tally) -> None:
    line = f"{broken.source}: {broken.id}: {broken.reason}"
    if not config.skip_broken:
        raise ValueError(f"{line}; --skip-broken leaves such samples out")
    tally.skipped += 1
    print(f"skipped {line}", file=sys.stderr)


def _chained(first: Batch, rest: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from rest


def _refuse_output(out: Path, config: EmbedConfig) -> None:
    if out.suffix not in (".parquet", ".npy"):
        raise ValueError(f"{out}: embeddings are written as .parquet or .npy")
    if out.suffix == ".parquet" and config.representation != "fused":
        raise ValueError("--representation is for .npy; a .parquet file holds all of them")
    files = [out, ids_file(out)] if out.suffix == ".npy" else [out]
    for path in files:
        if path.exists() and (path.is_dir() or not config.overwrite):
            raise ValueError(f"{path} exists already; choose another file, or --overwrite")


def device_of(name: str) -> torch.device:
    """The device that an option names.

    Raises:
        ValueError: ``cuda`` where torch sees no GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch sees no GPU here; use cpu or auto")
    return torch.device(name)
