"""`triptych retrieve`: search each modality of unseen samples with each other."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_sharding.manifest import ShardSet
from eval.card import CARD_FILE
from eval.records import write_json
from eval.retrieval import RetrievalConfig, retrieve
from eval.retrieval_table import format_retrieval
from eval.tasks import BUILTIN_TASKS, load_task
from pretrain.checkpoint import open_checkpoint
from pretrain.models import Backbone


@dataclass(frozen=True, kw_only=True)
class RetrieveCommand:
    """Find a picture by its sound, a text by its picture, ...: recall against chance."""

    checkpoint: tyro.conf.Positional[Path]
    """A checkpoint folder, or a run folder for its newest one."""

    samples: tyro.conf.Positional[str]
    """A task (`sample-topics` or a folder), or a shard set; pretraining must not have seen it."""

    split: str | None = None
    """Split of a shard set; if not given, all of it. A task names its own."""

    group_key: str | None = None
    """Key under `metadata`: samples of one group are each other's right answers. A task names its
    own."""

    out: Path | None = None
    """Report to write; if not given, `retrieval/CHECKPOINT/SAMPLES.json` inside the run."""

    config: Annotated[RetrievalConfig, tyro.conf.arg(name="")] = field(
        default_factory=RetrievalConfig
    )


def retrieve_command(arguments: list[str]) -> int:
    """`triptych retrieve`."""
    command = tyro.cli(RetrieveCommand, args=arguments, prog="triptych retrieve")
    checkpoint = open_checkpoint(command.checkpoint)
    name, shards, group_key = _samples(command)
    backbone = Backbone.load(checkpoint.backbone)
    report = retrieve(backbone, shards, group_key, command.config)
    folder = checkpoint.run / "retrieval" / checkpoint.folder.name
    path = command.out if command.out is not None else folder / f"{name}.json"
    write_json(path, report.to_json() | {"checkpoint": checkpoint.digest})
    print(format_retrieval(report, f"{name}, {checkpoint.folder.name}"))
    print(path)
    return 0


def _samples(command: RetrieveCommand) -> tuple[str, ShardSet, str | None]:
    """Name, shards and group key of what is searched.

    Raises:
        ValueError: An option that a task decides was given with a task.
    """
    where = command.samples
    if where not in BUILTIN_TASKS and not (Path(where) / CARD_FILE).is_file():
        shards = ShardSet.open(where, split=command.split)
        parts = [Path(where).name, command.split]
        return "-".join(part for part in parts if part), shards, command.group_key
    if command.split is not None or command.group_key is not None:
        raise ValueError(f"{where} is a task, which names its own split and groups; leave them out")
    task = load_task(where)
    return task.name, task.shards, task.card.group_key
