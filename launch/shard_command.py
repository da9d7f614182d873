"""`triptych shard`: a raw corpus -> a shard set, here, on Slurm or on Ray."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.job.engines import Engine, LocalEngine, RayEngine
from eval.importers.sample_topics import CORPUS
from launch.cluster import ClusterConfig
from launch.shard_array import slurm_engine


@dataclass(frozen=True, kw_only=True)
class ShardCommand:
    """Turn a raw corpus into WebDataset shards, each with an index, and a manifest.

    A job that was killed goes on where it stopped when the same command is given again. The same
    corpus and settings give the same shards, byte for byte, wherever the tasks run.
    """

    corpus: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """A manifest (JSONL, CSV or Parquet with id, text, image, audio, split, labels), a folder with
    such a manifest, a folder of files of the same name (cat.jpg, cat.txt), or WebDataset tars
    (`part-{000..010}.tar`); a local path or a URL (s3://, https://). `sample` is the bundled
    sample corpus."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to create."""

    append: bool = False
    """Add the corpus to the finished set in OUT, as a new generation of shards; what is there
    stays as it is, rows that it has already are left out, and what is alike shares a split."""

    cluster: Literal["inline", "local", "slurm", "ray"] = "local"
    """Where the tasks run: in this process, in processes here, as a Slurm array, or on Ray. Slurm
    and Ray need the corpus and OUT on storage that every node sees."""

    workers: int | None = None
    """Tasks at a time: processes here (default: one for each core), elements of the Slurm array
    that may run at once (default: no limit), or tasks that Ray is given at once (default: twice
    its cores)."""

    ray_address: str | None = None
    """Address of a Ray cluster, or `auto`; without it Ray is started here."""

    slurm: ClusterConfig = field(default_factory=ClusterConfig)
    """What each element of a Slurm array asks for."""

    config: Annotated[ShardingConfig, tyro.conf.arg(name="")] = field(
        default_factory=ShardingConfig
    )


def shard_command(arguments: list[str]) -> int:
    """`triptych shard`."""
    command = tyro.cli(ShardCommand, args=arguments, prog="triptych shard")
    corpus = str(CORPUS) if command.corpus == "sample" else command.corpus
    report = shard_corpus(
        corpus, command.out, command.config, make_engine(command), append=command.append
    )
    print(report.summary())
    return 0


def make_engine(command: ShardCommand) -> Engine:
    """Where the command wants its tasks to run.

    Raises:
        ValueError: Not fewer than one worker, or no such scheduler here.
    """
    if command.workers is not None and command.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {command.workers}")
    if command.cluster == "slurm":
        return slurm_engine(command.slurm, command.workers)
    if command.cluster == "ray":
        return RayEngine(address=command.ray_address, window=command.workers)
    if command.cluster == "inline" and command.workers not in (None, 1):
        raise ValueError("--cluster inline is one process: leave --workers out, or use local")
    return LocalEngine(workers=1 if command.cluster == "inline" else command.workers)
