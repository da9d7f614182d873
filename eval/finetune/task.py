"""Fine-tune a backbone on a task: read once, every representation over all splits, one report."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.card import Task
from eval.finetune.checks import refuse_bad_splits, refuse_idle_dropout, refuse_unwritable
from eval.finetune.config import FineTuneConfig, describe
from eval.finetune.inputs import TaskInputs, read_inputs
from eval.finetune.kept import keep_tuned
from eval.finetune.question import Question, partial_file, plain
from eval.finetune.report import REPORTS_FOLDER, FineTuneReport
from eval.finetune.splits import Workers, fine_tune_splits
from eval.finetune.summary import tuned_findings, tuned_scores
from eval.finetune.tune import Tuned, TunedResult, fine_tune
from eval.probes.contents import Copies, told_of_dropped
from eval.probes.equal_words import EQUAL_WORDS_LEFT_OUT, split_task
from eval.probes.linear_probe import LinearProbeConfig
from eval.probes.probe import describe_checkpoint, describe_shards
from eval.probes.problems import Grids, split_problems
from eval.probes.regression import Problem, RidgeConfig
from eval.records import write_json
from eval.release.head import FEATURES
from eval.representations import SUBSETS, modalities_of, refuse_unknown
from eval.splits import SplitConfig
from pretrain.checkpoint import Checkpoint
from pretrain.models import Backbone

logger = logging.getLogger(__name__)

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
    """Splits fine-tuned at once, each in a process on one thread; scores do not depend on it. More
    than one share backbone and inputs through a temporary folder beside the report."""

    def __post_init__(self) -> None:
        refuse_unknown(self.representations, "representations")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        refuse_idle_dropout(self.finetune, map(modalities_of, self.representations))


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

    Everything that can be refused is, before anything is trained. Representations that have
    finished are kept in a file beside the report until it is whole: see `partial_file`. The same
    question again goes on after them; another one replaces them. The head follows the report.

    Args:
        start: The backbone.
        task: What is learnt.
        config: How.
        out: File of the report.
        keep: Folder to create for the model of the first split on ``fused``, which
            `eval.release.predict` reads.

    Raises:
        ValueError: An option that the task's labels or modalities have no use for, inputs that do
            not fit in memory, ``out`` that is something else than a fine-tuning report or cannot
            be written, ``keep`` without ``fused`` or classes or into a folder that is not empty, or
            the task cannot be split: see `eval.probes.contents.honest_splits` and
            `refuse_bad_splits`.
    """
    _refuse_keep(keep, task, config)
    config = replace(config, finetune=config.finetune.for_labels(task.card.is_regression))
    question = _question(start, task, config)
    known = question.known(out)
    if known is not None and keep is None:
        return known
    if known is None and out.exists():
        logger.warning("%s answers another question: it will be replaced; --out keeps it", out)
    begun = question.known(partial_file(out))
    for path in (out, keep or out):
        refuse_unwritable(path)
    posed = _pose(Backbone.load(start.folder), task, config)
    if keep is not None and FEATURES in posed.missing:
        raise ValueError(f"task {task.name}: no head can be kept: {posed.missing[FEATURES]}")
    report, head = known, None
    if report is None:
        begun = begun or _empty_report(question, task, posed)
        report, head = _fine_tune_all(begun, posed, config, out, keep is not None)
        write_json(out, report.to_json())
        partial_file(out).unlink(missing_ok=True)
    if keep is not None:
        head = head or _first_of_head(posed, config)
        keep_tuned(keep, head, task, _split_of_head(posed, config))
    return report


@dataclass(frozen=True, kw_only=True)
class _Posed:
    """All that training needs, looked at."""

    backbone: Backbone
    task: Task
    inputs: TaskInputs
    problems: Mapping[str, Sequence[Problem]]
    """By split, of each representation that some sample can give."""
    missing: Mapping[str, str]
    """The other representations, each with its reason."""
    findings: tuple[str, ...]
    """What a reader must know of copies and of words that repeat."""


def _pose(backbone: Backbone, task: Task, config: TaskConfig) -> _Posed:
    inputs = read_inputs(backbone, task, config.representations)
    samples = inputs.samples
    used = {name: samples.has(name) for name in config.representations}
    parts = split_task(task, samples, used, config.splits, config.copies)
    parts.refuse_nothing(task, "learn from")
    problems = {
        name: split_problems(task, samples, part.splits, UNUSED_GRIDS, (name, part.used))
        for name, part in parts.read.items()
        if part.splits
    }
    refuse_bad_splits(task.card, problems)
    refuse_idle_dropout(config.finetune, map(inputs.read_by, problems))
    words = [f"{name}: {told}" for name in problems if (told := parts.read[name].told)]
    return _Posed(
        backbone=backbone,
        task=task,
        inputs=inputs,
        problems=problems,
        missing=parts.missing,
        findings=(*told_of_dropped(parts.num_dropped), *words),
    )


def _empty_report(question: Question, task: Task, posed: _Posed) -> FineTuneReport:
    return FineTuneReport(
        task=question.task,
        checkpoint=question.checkpoint,
        shards=describe_shards(task, posed.inputs.samples),
        protocol=question.protocol,
        representations={},
        missing=posed.missing,
        findings=posed.findings,
    )


def _fine_tune_all(
    report: FineTuneReport, posed: _Posed, config: TaskConfig, out: Path, for_head: bool
) -> tuple[FineTuneReport, Tuned | None]:
    """The whole report; and the model of a head, where one is kept and was fine-tuned now."""
    head: Tuned | None = None
    for name in posed.problems:
        if name in report.representations:
            logger.warning("%s was fine-tuned before: going on after it", name)
            continue
        first = _first_of_head(posed, config) if for_head and name == FEATURES else None
        head = head or first
        results = _results(name, posed, config, out, first)
        report = _with_scores(report, name, posed, results)
        write_json(partial_file(out), report.to_json())
    return report, head


def _first_of_head(posed: _Posed, config: TaskConfig) -> Tuned:
    """The model of the first split, which a head is made of."""
    first = posed.problems[FEATURES][0]
    return fine_tune(posed.backbone, posed.inputs, first, FEATURES, config.finetune)


def _results(
    name: str, posed: _Posed, config: TaskConfig, out: Path, first: Tuned | None
) -> list[TunedResult]:
    """Of every split; the first is not fine-tuned again where its model is there."""
    problems = dict(enumerate(posed.problems[name]))
    known = [] if first is None else [first.result]
    rest = {seed: problem for seed, problem in problems.items() if seed >= len(known)}
    workers = Workers(num=config.workers, beside=out)
    made = fine_tune_splits(posed.backbone, posed.inputs, rest, name, config.finetune, workers)
    return known + made


def _with_scores(
    report: FineTuneReport, name: str, posed: _Posed, results: Sequence[TunedResult]
) -> FineTuneReport:
    """The report with one more representation."""
    problems, card = posed.problems[name], posed.task.card
    scores = tuned_scores(card, problems, results, posed.inputs.read_by(name))
    return replace(
        report,
        representations={**report.representations, name: scores},
        findings=(*report.findings, *tuned_findings(name, card, problems, results)),
    )


def _refuse_keep(keep: Path | None, task: Task, config: TaskConfig) -> None:
    if keep is None:
        return
    if task.card.is_regression:
        raise ValueError(f"task {task.name}: its label is a number; a head needs classes")
    if FEATURES not in config.representations:
        raise ValueError(f"a head reads {FEATURES}, which is not among the representations")
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise ValueError(f"{keep}: exists already and is not empty; choose another folder")


def _split_of_head(posed: _Posed, config: TaskConfig) -> str:
    if posed.inputs.samples.fixed is None:
        return "random"
    share = config.splits.train_share
    drawn = "" if share == 1.0 else f", {100 * share:g} % of the training groups"
    return f"the authors' parts{drawn}"


def _question(start: Start, task: Task, config: TaskConfig) -> Question:
    chosen = "mean absolute error" if task.card.is_regression else "macro-F1"
    return Question(
        task=plain(task.card.to_json()),
        checkpoint=start.identity,
        shards=task.shards.digest,
        protocol=plain(
            {
                "finetune": describe(config.finetune),
                "splits": asdict(config.splits),
                "representations": config.representations,
                "copies": config.copies,
                **({"equal_words": EQUAL_WORDS_LEFT_OUT} if config.copies == "drop" else {}),
                "seeds": "of each split its place",
                "head": "linear, on the representation less its mean over the training part, over "
                "its deviation there, both before the first step; batch norms keep the running "
                "statistics of pretraining",
                "selection": f"the epoch with the best {chosen} on the validation part; test is "
                "read once per split after that, and once more for each modality that is masked",
            }
        ),
    )
