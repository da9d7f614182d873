"""The run as one HTML page: self-contained, for a phone and a desk, in light and dark."""

from pathlib import Path

from eval.pages.chapters import chapters
from eval.pages.charts import Points
from eval.pages.modality_table import EFFECTS
from eval.pages.page import render_page
from eval.pages.run_record import RunRecord, read_run
from eval.pages.task_section import task_sections
from eval.pages.tuned_section import tuned_sections
from eval.probes.best import RULE, Choice
from eval.probes.probe_report import repeats, tell
from eval.records import flatten, write_text
from pretrain.metrics import guide

REPORT_FILE = "report.html"
TRAINING = (guide.LOSSES, guide.SCHEDULES, guide.SCORES, guide.DATA)
HEALTH = (guide.COLLAPSE, guide.ALIGNMENT, guide.WEIGHTS, guide.GRADIENTS)
VERDICTS = {
    "healthy": "Healthy: no rule found anything at the last look.",
    "warned": "Warned: something deserves a look.",
    "collapsed": "Collapsed: these weights are unfit to publish.",
}


def write_report(run: Path) -> Path:
    """Write ``report.html`` into the run folder.

    Returns:
        Its path.

    Raises:
        ValueError: The folder is no run, or a probe report in it cannot be read.
    """
    page = render(read_run(run))
    write_text(run / REPORT_FILE, page)
    return run / REPORT_FILE


def render(record: RunRecord) -> str:
    """The page; everything that comes from data is escaped."""
    return render_page(
        "report.html",
        run=record,
        best=_best(record.choice),
        facts=_facts(record),
        tasks=task_sections(record.probes, record.maps),
        tuned=tuned_sections(record.fine_tunes),
        training=chapters(TRAINING, record.metrics),
        health=chapters(HEALTH, record.metrics),
        verdicts=VERDICTS,
        config=flatten(record.config),
        tell=tell,
        repeats=repeats,
        effects=EFFECTS,
        rule=RULE,
    )


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """The tiles at the top: label and value."""
    facts: list[tuple[str, str]] = []
    losses = record.metrics.get("loss/total")
    if losses:
        facts.append(("last logged step", f"{losses[-1][0]:,.0f}"))
    if losses and len(losses) > 1:
        facts.append(("loss, first to last", f"{losses[0][1]:.2f} → {losses[-1][1]:.2f}"))
    samples = record.metrics.get("samples")
    if samples:
        facts.append(("samples seen by then", f"{samples[-1][1]:,.0f}"))
    speed = _first(record, "speed/samples_per_second", "samples_per_second")
    if speed:
        middle = sorted(value for _, value in speed)[len(speed) // 2]
        facts.append(("samples per second", f"{middle:,.0f}"))
    facts.append(("checkpoints", str(len(record.checkpoints))))
    if record.choice.best is not None:
        facts.append(("best checkpoint, by validation", record.choice.best.name))
    if record.health is not None:
        facts.append(("health", record.health.verdict.state))
    return facts


def _best(choice: Choice) -> str:
    """One sentence, with what was left out and why."""
    text = choice.sentence()
    left_out = [f"{one.name} {one.left_out}" for one in choice.candidates if one.left_out]
    if choice.best is not None and left_out:
        text += f"; left out: {', '.join(left_out)}"
    return f"{text[0].upper()}{text[1:]}."


def _first(record: RunRecord, *names: str) -> Points | None:
    return next((record.metrics[name] for name in names if name in record.metrics), None)
