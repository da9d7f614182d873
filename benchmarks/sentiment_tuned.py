"""The trained columns of the sentiment table: one fine-tuning report for each arm and subset."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from quality_probe import Marks, Question
from sentiment_tasks import SentimentTask

from eval.card import Task
from eval.finetune import FineTuneConfig, FineTuneReport, Start, TaskConfig, fine_tune_task
from eval.probes.features import recompute_batch_norm
from pretrain.models import Backbone

SCRATCH, TUNED = "from scratch", "fine-tuned"
WORKERS = 2


def probe_tuned(question: Question, trained: Path, given: SentimentTask) -> dict[str, Marks]:
    """Marks of the pretrained backbone and of a fresh one, both trained on the labels alike.

    Args:
        question: Task, splits and representations; its folder keeps the reports.
        trained: The pretrained backbone.
        given: How many epochs, of which validation chooses one; whether there is a fresh one.
    """
    starts = [start_at(trained, TUNED)]
    if given.scratch:
        starts.append(fresh_start(trained, question.task, question.folder / "finetuned" / "fresh"))
    return {start.identity["name"]: _marks(question, start, given.epochs) for start in starts}


def start_at(backbone: Path, name: str) -> Start:
    """A backbone's folder, known by its weights."""
    weights = hashlib.sha256((backbone / "model.safetensors").read_bytes()).hexdigest()
    return Start(folder=backbone, identity={"name": name, "digest": weights})


def fresh_start(like: Path, task: Task, folder: Path) -> Start:
    """Random weights in the architecture, and with the statistics, of another backbone."""
    backbone = Backbone.random_like(like, 0)
    recompute_batch_norm([backbone], task)  # fine-tuning keeps what running statistics there are
    backbone.save(folder)
    return start_at(folder, SCRATCH)


def _marks(question: Question, start: Start, epochs: int) -> Marks:
    folder = question.folder / "finetuned"
    reports: dict[str, FineTuneReport] = {}
    for name in question.config.representations:
        config = TaskConfig(
            representations=(name,),
            splits=question.config.splits,
            copies=question.config.copies,
            finetune=FineTuneConfig(epochs=epochs),
            workers=WORKERS,
        )
        file = f"{start.identity['name'].replace(' ', '_')}-{name}.json"
        reports[name] = fine_tune_task(start, question.task, config, folder / file)
        found = reports[name].representations[name].metrics[question.task.card.metric]
        print(f"{file}: {', '.join(f'{100 * value:.1f}' for value in found.per_split)}", flush=True)
    return _merged(reports, question.task.card.metric)


def _merged(reports: Mapping[str, FineTuneReport], metric: str) -> Marks:
    parts = {name: report.representations[name] for name, report in reports.items()}
    return Marks(
        scores={name: part.metrics[metric].per_split for name, part in parts.items()},
        majority={name: part.constant[metric].per_split for name, part in parts.items()},
        test_share={},
        num_samples={name: sum(part.split_sizes[0].values()) for name, part in parts.items()},
    )
