"""One backbone fine-tuned on every split of a task, several at once where there are processes."""

import fcntl
import glob
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from data_sharding.parallel import in_processes
from eval.finetune.config import FineTuneConfig
from eval.finetune.inputs import TaskInputs
from eval.finetune.tune import TunedResult, fine_tune
from eval.probes.regression import Problem
from eval.samples import TaskSamples
from pretrain.disk_room import room_named
from pretrain.models import Backbone

BACKBONE_FOLDER, INPUTS_FILE, LOCK_FILE = "backbone", "inputs.safetensors", "in-use"


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Processes that fine-tune splits at once."""

    num: int
    """The results do not depend on it."""
    beside: Path
    """A file: more than one process share backbone and inputs through a folder beside it, which is
    removed at the end (what a kill left, by the next command there). The machine's own temporary
    folder may lie in memory, where the inputs, up to half of what is free, would be twice."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One split."""

    problem: Problem
    name: str
    config: FineTuneConfig
    seed: int


@dataclass(frozen=True, kw_only=True)
class _Handed(_Job):
    """One split as a worker process is given it: what is large lies in files, which all share."""

    folder: Path
    samples: TaskSamples
    modalities: tuple[str, ...]
    made_by: str


def fine_tune_splits(
    backbone: Backbone,
    inputs: TaskInputs,
    problems: Mapping[int, Problem],
    name: str,
    config: FineTuneConfig,
    workers: Workers | None = None,
) -> list[TunedResult]:
    """Fine-tune a copy of the backbone for each split, in their order.

    Args:
        backbone: Stays as it is.
        inputs: Made by `read_inputs` for such a backbone.
        problems: By the split's place, which is its seed; of samples that have what the
            representation reads.
        name: The representation.
        config: How.
        workers: None: one split after the other, in this process.

    Raises:
        ValueError: As `fine_tune`.
        NoRoomError: The disk has no room for what the processes share.
    """
    label = f"fine-tuning {name}, splits"
    jobs = [
        _Job(problem=problem, name=name, config=config, seed=seed)
        for seed, problem in problems.items()
    ]
    if workers is None or min(workers.num, len(jobs)) <= 1:
        return list(in_processes(lambda job: _tune(backbone, inputs, job), jobs, 1, label))
    with _shared_folder(workers.beside) as folder:
        with room_named(folder, "give --workers 1, which shares nothing"):
            backbone.save(folder / BACKBONE_FOLDER)
            save_file(dict(inputs.tensors), folder / INPUTS_FILE)
        handed = [
            _Handed(
                **vars(job),
                folder=folder,
                samples=inputs.samples,
                modalities=inputs.modalities,
                made_by=inputs.made_by,
            )
            for job in jobs
        ]
        return list(in_processes(_tune_handed, handed, workers.num, label))


@contextmanager
def _shared_folder(beside: Path) -> Iterator[Path]:
    """A folder that lasts as long as the block; those that killed processes left are removed."""
    prefix = f"{beside.name}.inputs-"
    for left in beside.parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError), (left / LOCK_FILE).open() as lock:  # one that is in use stays
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=beside.parent) as made,
        (Path(made) / LOCK_FILE).open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(made)


def _tune(backbone: Backbone, inputs: TaskInputs, job: _Job) -> TunedResult:
    return fine_tune(backbone, inputs, job.problem, job.name, job.config, job.seed).result


def _tune_handed(job: _Handed) -> TunedResult:
    inputs = TaskInputs(
        samples=job.samples,
        modalities=job.modalities,
        tensors=load_file(job.folder / INPUTS_FILE),
        made_by=job.made_by,
    )
    return _tune(Backbone.load(job.folder / BACKBONE_FOLDER), inputs, job)
