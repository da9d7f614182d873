"""Fine-tune a backbone on a task: read once, every representation over all splits, one report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.card import Task
from eval.finetune.config import FineTuneConfig, describe
from eval.finetune.inputs import TaskInputs, read_inputs
from eval.finetune.kept import keep_tuned
from eval.finetune.report import REPORTS_FOLDER, FineTuneReport, TunedScores, read_report
from eval.finetune.splits import fine_tune_splits
from eval.finetune.summary import tuned_findings, tuned_scores
from eval.finetune.tune import fine_tune
from eval.probes.contents import Copies, honest_splits
from eval.probes.linear_probe import LinearProbeConfig
from eval.probes.probe import describe_checkpoint, describe_shards
from eval.probes.problems import Grids, split_problems
from eval.probes.regression import Problem, RidgeConfig
from eval.records import write_json
from eval.release.head import FEATURES
from eval.representations import SUBSETS, refuse_unknown
from eval.splits import SplitConfig
from pretrain.checkpoint import Checkpoint
from pretrain.models import Backbone

NUM_SPLITS = 5
UNUSED_GRIDS = Grids(linear=LinearProbeConfig(), ridge=RidgeConfig())
"""A split's problem carries the linear probe's; nothing here chooses from them."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What of a task is fine-tuned on, and how."""

    representations: tuple[str, ...] = SUBSETS
    """`text`, `image`, `audio`, `fused` (whatever a sample has), or the fusion of exactly some
    modalities: `fused_text`, `fused_text_image`, ... Each is fine-tuned from the same start."""
    splits: SplitConfig = field(default_factory=lambda: SplitConfig(num_splits=NUM_SPLITS))
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)
    copies: Copies = "refuse"
    """Samples whose content lies on two sides of a split: `refuse` lists them; `drop` leaves them
    out of the earlier part, and the report counts them."""
    workers: int = 1
    """Splits fine-tuned at once, each in a process on one thread; scores do not depend on it."""

    def __post_init__(self) -> None:
        refuse_unknown(self.representations, "representations")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


@dataclass(frozen=True, kw_only=True)
class Start:
    """The backbone that fine-tuning starts from."""

    folder: Path
    """What `Backbone.load` reads."""
    identity: Mapping[str, Any]
    """Name and digest, for the report."""


def start_of(checkpoint: Checkpoint) -> Start:
    """The backbone of a checkpoint."""
    return Start(folder=checkpoint.backbone, identity=describe_checkpoint(checkpoint))


def report_file(checkpoint: Checkpoint, task: Task) -> Path:
    """Where the report of this checkpoint and task lies."""
    return checkpoint.run / REPORTS_FOLDER / checkpoint.folder.name / f"{task.name}.json"


def fine_tune_task(
    start: Start, task: Task, config: TaskConfig, out: Path, keep: Path | None = None
) -> FineTuneReport:
    """Fine-tune on every split and write the report; one that is there and the same is read back.

    Args:
        start: The backbone.
        task: What is learnt.
        config: How.
        out: File of the report.
        keep: Folder to create for the model of the first split on ``fused``, which
            `eval.release.predict` reads; it is fine-tuned once more for this, with the same result.

    Raises:
        ValueError: An option that the task's labels have no use for, inputs that do not fit in
            memory, ``keep`` without ``fused`` or classes or into a folder that is not empty, or the
            task cannot be split: see `eval.probes.contents.honest_splits`.
    """
    _refuse_keep(keep, task, config)
    protocol = _protocol(config, task)
    known = _matching_report(out, start, task, protocol)
    if known is not None and keep is None:
        return known
    backbone = Backbone.load(start.folder)
    inputs = read_inputs(backbone, task, config.representations)
    splits, num_dropped = honest_splits(task, inputs.samples, config.splits, config.copies)
    problems = {
        name: split_problems(task, inputs.samples, splits, UNUSED_GRIDS, (name, mask))
        for name in config.representations
        if (mask := inputs.samples.has(name)).any()
    }
    if keep is not None:
        tuned = fine_tune(backbone, inputs, problems[FEATURES][0], FEATURES, config.finetune)
        keep_tuned(keep, tuned, task, inputs.samples.fixed is not None)
    if known is not None:
        return known
    scores, told = _fine_tune_all(backbone, inputs, task, problems, config)
    if num_dropped:
        told.insert(
            0, f"{num_dropped} samples that a later part repeats were left out of an earlier one"
        )
    report = FineTuneReport(
        task=_plain(task.card.to_json()),
        checkpoint=start.identity,
        shards=describe_shards(task, inputs.samples),
        protocol=protocol,
        representations=scores,
        missing={
            name: f"no labelled sample of {task.name} has {name}"
            for name in config.representations
            if name not in problems
        },
        findings=tuple(told),
    )
    write_json(out, report.to_json())
    return report


def _fine_tune_all(
    backbone: Backbone,
    inputs: TaskInputs,
    task: Task,
    problems: Mapping[str, Sequence[Problem]],
    config: TaskConfig,
) -> tuple[dict[str, TunedScores], list[str]]:
    """Scores by representation, and what must be said of them."""
    scores: dict[str, TunedScores] = {}
    told: list[str] = []
    for name, posed in problems.items():
        results = fine_tune_splits(backbone, inputs, posed, name, config.finetune, config.workers)
        scores[name] = tuned_scores(task.card, posed, results, inputs.read_by(name))
        told += tuned_findings(name, task.card, posed, results)
    return scores, told


def _refuse_keep(keep: Path | None, task: Task, config: TaskConfig) -> None:
    if keep is None:
        return
    if task.card.is_regression:
        raise ValueError(f"task {task.name}: its label is a number; a head needs classes")
    if FEATURES not in config.representations:
        raise ValueError(f"a head reads {FEATURES}, which is not among the representations")
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise ValueError(f"{keep}: exists already and is not empty; choose another folder")


def _protocol(config: TaskConfig, task: Task) -> dict[str, Any]:
    """All that must be equal for two reports to be compared."""
    numbers = task.card.is_regression
    chosen = "mean absolute error" if numbers else "macro-F1"
    return _plain(
        {
            "finetune": describe(config.finetune.for_labels(numbers)),
            "splits": asdict(config.splits),
            "representations": config.representations,
            "copies": config.copies,
            "seeds": "of each split its place",
            "head": "linear, on the representation less its mean over the training part, over its "
            "deviation there, both before the first step; batch norms keep the running statistics "
            "of pretraining",
            "selection": f"the epoch with the best {chosen} on the validation part; test is read "
            "once per split after that, and once more for each modality that is masked",
        }
    )


def _matching_report(
    path: Path, start: Start, task: Task, protocol: Mapping[str, Any]
) -> FineTuneReport | None:
    """The report that is there already, if it answers the same question."""
    try:
        report = read_report(path)
    except ValueError:
        return None  # absent or unreadable: it is made again and replaced
    same = (
        report.checkpoint == start.identity
        and report.task == _plain(task.card.to_json())
        and report.shards["digest"] == task.shards.digest
        and report.protocol == protocol
    )
    return report if same else None


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(record))
