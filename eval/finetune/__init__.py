"""In: a backbone and a labelled task; out: models tuned on every split, their scores, a report.

A copy of the backbone learns with a linear head; validation chooses the epoch, test is read once.
This package must not know: runs, jobs, how a report is shown on a page.
"""

from eval.finetune.config import FineTuneConfig
from eval.finetune.inputs import TaskInputs, read_inputs
from eval.finetune.report import FineTuneReport, TunedScores, read_fine_tunes
from eval.finetune.splits import Workers, fine_tune_splits
from eval.finetune.table import format_report
from eval.finetune.task import Start, TaskConfig, fine_tune_task, report_file, start_of
from eval.finetune.tune import Epoch, Tuned, TunedResult, fine_tune

__all__ = [
    "Epoch",
    "FineTuneConfig",
    "FineTuneReport",
    "Start",
    "TaskConfig",
    "TaskInputs",
    "Tuned",
    "TunedResult",
    "TunedScores",
    "Workers",
    "fine_tune",
    "fine_tune_splits",
    "fine_tune_task",
    "format_report",
    "read_fine_tunes",
    "read_inputs",
    "report_file",
    "start_of",
]
