"""What a run shows of its probes, made anew from all reports: so their order of arrival is nothing.

``best.json``, the curves under ``tensorboard/probes`` and ``report.html``. The best checkpoint so
far is leased, so that a run which keeps few does not remove it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_sharding.folder_lock import held_in_turn
from eval.pages.report import REPORT_FILE, render
from eval.pages.run_record import made_alike, read_run
from eval.probes.best import BEST_FILE, Candidate, Choice
from eval.probes.probe_report import ProbeReport, ProbeScores
from eval.records import write_json, write_text
from pretrain.checkpoint import CheckpointError, open_checkpoint, take_lease
from pretrain.metrics import replace_curves

logger = logging.getLogger(__name__)

BEST_HOLDER = "best"
WAIT_SECONDS = 300.0
"""For others that draw the same pages."""


def renew_pages(run: Path) -> Choice:
    """Draw all pages of a run that show its probes; others that do so at the same time wait.

    Returns:
        The best checkpoint.

    Raises:
        ValueError: The folder is no run, a report in it cannot be read, or the others took too
            long.
        CheckpointError: The best checkpoint was removed just now.
    """
    with _in_turn(run):
        record = read_run(run)
        _keep_best(run, record.choice.best)
        write_json(run / BEST_FILE, record.choice.to_json())
        points = [(int(one.checkpoint["step"]), _scalars(one)) for one in made_alike(record.probes)]
        replace_curves(run / "tensorboard" / "probes", points, scratch=run / "probes")
        write_text(run / REPORT_FILE, render(record))
        return record.choice


def renew_pages_or_warn(run: Path) -> Choice | None:
    """`renew_pages`, for one whose work is done: that a page cannot be drawn is a warning."""
    try:
        return renew_pages(run)
    except (ValueError, OSError, CheckpointError) as error:
        logger.warning("%s: its pages are as before: %s", run, error)
        return None


@contextmanager
def _in_turn(run: Path) -> Iterator[None]:
    def lost(message: str) -> None:
        logger.warning("%s; pages are written whole, so nothing is lost", message)

    (run / "probes").mkdir(exist_ok=True)
    with held_in_turn(run / "probes" / "pages.lock", WAIT_SECONDS, lost):
        yield


def _keep_best(run: Path, best: Candidate | None) -> None:
    """Lease the best checkpoint so far, and let go the one that was it before."""
    folder = run / "checkpoints"
    for lease in folder.glob(f"step-????????.lease-{BEST_HOLDER}.json"):
        if best is None or not lease.name.startswith(f"{best.name}."):
            lease.unlink(missing_ok=True)
    if best is not None:
        checkpoint = open_checkpoint(folder / best.name, verify=False)
        take_lease(checkpoint, BEST_HOLDER, promised=run / "probes" / "never")


def _scalars(report: ProbeReport) -> Mapping[str, float]:
    """By TensorBoard's tag; see the page of probes in `pretrain.metrics.guide`."""
    metric, found = report.task["metric"], {}
    for subset, part in report.subsets.items():
        place = f"probe/{report.task['name']}/{subset}"
        found |= _of_probe(place, metric, part.pretrained, part.floors["random"])
        for name, other in part.others.items():
            tag = name.replace(" %", "_percent").replace(" ", "_")
            found |= _of_probe(f"{place}/{tag}", metric, other.pretrained, other.random)
    return found


def _of_probe(
    place: str, metric: str, pretrained: ProbeScores, random: ProbeScores
) -> dict[str, float]:
    found = {
        f"{place}/{metric}": pretrained.metrics[metric].mean,
        f"{place}/random": random.metrics[metric].mean,
    }
    if marks := pretrained.validation_macro_f1:
        found[f"{place}/validation"] = _mean(marks)
    return found


def _mean(marks: Sequence[float]) -> float:
    return sum(marks) / len(marks)
