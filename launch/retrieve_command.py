"""`triptych retrieve`: search each modality of unseen samples with each other."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_sharding.manifest import ShardSet
from data_sharding.schema import DEFAULT_SPLIT, ShardError, canonical_json
from data_sharding.stream.source import open_stream
from eval.card import CARD_FILE
from eval.pages.retrieval_record import SEEN
from eval.pages.retrieval_table import format_retrieval
from eval.probes.retrieval import RetrievalConfig, RetrievalReport, retrieve, splits_of
from eval.records import write_json
from eval.tasks import BUILTIN_TASKS, load_task
from launch.run_data import DATA_FILE, RunData
from pretrain.checkpoint import Checkpoint, open_checkpoint
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

    allow_seen: bool = False
    """Search samples that the run has learned from as well; the report says so."""

    out: Path | None = None
    """Report to write; if not given, `retrieval/CHECKPOINT/SAMPLES-SHARDS-PROTOCOL.json` inside
    the run, with eight digits of the digest of the shards and of the protocol."""

    config: Annotated[RetrievalConfig, tyro.conf.arg(name="")] = field(
        default_factory=RetrievalConfig
    )


def retrieve_command(arguments: list[str]) -> int:
    """`triptych retrieve`."""
    command = tyro.cli(RetrieveCommand, args=arguments, prog="triptych retrieve")
    checkpoint = open_checkpoint(command.checkpoint)
    name, shards, group_key = _samples(command)
    seen = was_seen(checkpoint, shards)
    if seen and not command.allow_seen:
        raise ValueError(
            f"{command.samples}: the run has learned from its split "
            f"{_trained_split(checkpoint)!r}, so what is found there says nothing of unseen "
            "samples; choose another --split of "
            f"{', '.join(shards.splits)}, or search it all the same with --allow-seen"
        )
    backbone = Backbone.load(checkpoint.backbone)
    report = retrieve(backbone, shards, group_key, command.config)
    folder = checkpoint.run / "retrieval" / checkpoint.folder.name
    path = command.out if command.out is not None else folder / _file_name(name, report)
    identity = {"checkpoint": checkpoint.digest, "seen_in_pretraining": seen}
    write_json(path, report.to_json() | identity)
    print(format_retrieval(report, f"{name}, {checkpoint.folder.name}"))
    print(SEEN[seen])
    print(path)
    return 0


def was_seen(checkpoint: Checkpoint, shards: ShardSet) -> bool | None:
    """Whether the weights have learned from a split that is searched, by the digests of the sets.

    None where that cannot be told: the set was altered since, or the run has no ``data.json`` and
    its shards are gone.

    Raises:
        ValueError: The run's ``data.json`` is malformed.
    """
    split = _trained_split(checkpoint)
    if split not in splits_of(shards):
        return False
    data = _run_data(checkpoint, split)
    if data is None:
        return None
    begun = [
        weights for start, weights in data.phases if start < max(checkpoint.samples_consumed, 1)
    ]
    learned = {
        part["digest"]: Path(part["location"]).resolve()
        for number, part in enumerate(data.sets)
        if any(number < len(weights) and weights[number] > 0.0 for weights in begun)
    }
    if shards.digest in learned:
        return True
    # A set that has grown since holds what was learned from under another digest.
    return None if Path(shards.location).resolve() in learned.values() else False


def _run_data(checkpoint: Checkpoint, split: str) -> RunData | None:
    """The record of the run; where it is gone, what its shards are now."""
    path = checkpoint.run / DATA_FILE
    if path.is_file():
        return RunData.read(path)
    try:
        return RunData.of(open_stream(checkpoint.config["data"]["shards"], split))
    except (KeyError, ShardError, OSError, ValueError):
        return None


def _trained_split(checkpoint: Checkpoint) -> str:
    return checkpoint.config.get("data", {}).get("split", DEFAULT_SPLIT)


def _file_name(name: str, report: RetrievalReport) -> str:
    """Another for every question: none replaces the answer to another."""
    protocol = hashlib.sha256(canonical_json(report.to_json()["protocol"])).hexdigest()
    return f"{name}-{report.shards[:8]}-{protocol[:8]}.json"


def _samples(command: RetrieveCommand) -> tuple[str, ShardSet, str | None]:
    """Name, shards and group key of what is searched.

    Raises:
        ValueError: An option that a task decides was given with a task.
    """
    where = command.samples
    if where not in BUILTIN_TASKS and not (Path(where) / CARD_FILE).is_file():
        shards = ShardSet.open(where, split=command.split)
        parts = [Path(where).resolve().name, command.split]
        return "-".join(part for part in parts if part), shards, command.group_key
    if command.split is not None or command.group_key is not None:
        raise ValueError(f"{where} is a task, which names its own split and groups; leave them out")
    task = load_task(where)
    return task.name, task.shards, task.card.group_key
