"""`triptych task import`, `task new` and `task show`: labelled sets become tasks for probes."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from eval.card import Task
from eval.importers import IMPORTERS, ImportOptions, TableConfig, import_set, import_table
from eval.tasks import BUILTIN_TASKS, load_task

USAGE = """\
usage: triptych task import SET FOLDER OUT    a labelled set, as its authors distribute it
       triptych task new TABLE OUT --label COLUMN --group COLUMN    a CSV or JSONL of your own
       triptych task show TASK                what a task holds, and how it is scored

A task is a folder of labelled shards with a card, task.json. Probe it with
`triptych probe RUN TASK`. Sets that can be imported:

{sets}

Built in: {builtin}. `triptych task import --help` and `task new --help` tell the options.
"""


@dataclass(frozen=True, kw_only=True)
class TaskImportCommand:
    """Turn a labelled set, as its authors distribute it, into a task for `triptych probe`.

    Nothing is downloaded. Every row that is dropped is counted in the card, and counts are held
    against the published ones: a part of a set is allowed, and the card says so.
    Example: triptych task import mosi MOSI tasks/mosi && triptych task show tasks/mosi
    """

    set: tyro.conf.Positional[str]
    """Name of the set; `triptych task` lists them."""

    folder: tyro.conf.Positional[Path]
    """Where the unpacked set lies."""

    out: tyro.conf.Positional[Path]
    """Task folder to create."""

    options: Annotated[ImportOptions, tyro.conf.arg(name="")] = field(default_factory=ImportOptions)


@dataclass(frozen=True, kw_only=True)
class TaskNewCommand:
    """Turn a table of your own, CSV or JSONL, into a task for `triptych probe`.

    Columns id, text, image and audio are read under these names (--columns maps others); image and
    audio are paths from the table's folder. Example: a speaker must not be heard in training and
    tested, so
    triptych task new emodb/manifest.csv tasks/emodb --label emotion --group speaker
    """

    table: tyro.conf.Positional[Path]
    """The .csv or .jsonl file."""

    out: tyro.conf.Positional[Path]
    """Task folder to create."""

    config: Annotated[TableConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class TaskShowCommand:
    """Show what a task holds: labels, parts, modalities, how it is split and scored, its notes."""

    task: tyro.conf.Positional[str]
    """A task folder, or the name of a built-in task."""


def task_command(arguments: list[str]) -> int:
    """`triptych task`.

    Raises:
        ValueError: No such sub-command.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage(), end="")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in _COMMANDS:
        raise ValueError(f"triptych task {name}: there are {', '.join(_COMMANDS)}")
    return _COMMANDS[name](rest)


def describe_task(task: Task) -> str:
    """The card in words, with the number of samples of each part."""
    card = task.card
    if card.label_range is not None:
        low, high = card.label_range
        labels = f"numbers from {low:g} to {high:g}, classes by the rule {card.class_cuts!r}"
    else:
        labels = ", ".join(card.classes)
    samples = Counter[str]()
    for shards in task.parts:
        for shard in shards.shards:
            samples[shard.split] += shard.samples
    no_groups = "cut by the authors' parts" if card.fixed_parts else "each sample is its own"
    facts = {
        "task": card.name,
        "label": f"{card.label_key}: {labels}",
        "metric": card.metric,
        "samples": ", ".join(f"{count} {split}" for split, count in samples.items()),
        "modalities": ", ".join(f"{name} {n}" for name, n in _present(task).items()),
        "groups": card.group_key or no_groups,
        "split": card.split_rule,
        "licence": card.licence,
        "source": card.source,
        "digest": task.shards.digest[:16],
    }
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items()]
    return "\n".join([*lines, *(f"{'note':<{width}}  {note}" for note in card.notes)])


def _present(task: Task) -> dict[str, int]:
    counts = Counter[str]()
    for shards in task.parts:
        counts.update({name: shards.present.get(name, 0) for name in task.card.modalities})
    return dict(counts)


def _import(arguments: list[str]) -> int:
    command = tyro.cli(
        TaskImportCommand,
        args=arguments,
        prog="triptych task import",
        description=f"{TaskImportCommand.__doc__}\n\nSets:\n\n{_sets()}",
    )
    task = import_set(command.set, command.folder, command.out, command.options)
    print(describe_task(task))
    return 0


def _new(arguments: list[str]) -> int:
    command = tyro.cli(TaskNewCommand, args=arguments, prog="triptych task new")
    print(describe_task(import_table(command.table, command.out, command.config)))
    return 0


def _show(arguments: list[str]) -> int:
    command = tyro.cli(TaskShowCommand, args=arguments, prog="triptych task show")
    print(describe_task(load_task(command.task)))
    return 0


def _sets() -> str:
    width = max(map(len, IMPORTERS))
    return "\n".join(f"  {name:<{width}}  {found.about}" for name, found in IMPORTERS.items())


def _usage() -> str:
    return USAGE.format(sets=_sets(), builtin=", ".join(sorted(BUILTIN_TASKS)))


_COMMANDS: Mapping[str, Callable[[list[str]], int]] = {
    "import": _import,
    "new": _new,
    "show": _show,
}
