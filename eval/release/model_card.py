"""The model card: generated from the run and its stored probe reports, never from memory."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

from eval.probes.probe_report import ProbeReport, metric_heading, repeats, tell
from eval.records import flatten
from eval.release.card_facts import CardFacts, one_line
from pretrain.metrics.energy import KINDS

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
SECTIONS = (
    "How to load it",
    "What it is worth",
    "What it was trained on",
    "How it was trained",
    "Intended use",
    "Limits",
    "Terms",
    "Run",
)
"""Headings that every card has."""
_METRIC_TYPES = {
    "macro_f1": "f1",
    "weighted_f1": "f1",
    "balanced_accuracy": "accuracy",
}
"""Our metrics that the Hub knows under another name."""


def render_card(
    facts: CardFacts,
    reports: Sequence[ProbeReport],
    name: str,
    licence: str,
    datasets: Sequence[str] = (),
) -> str:
    """Text of the card: metadata for the Hub, then what a reader needs to judge and to load it.

    Args:
        facts: Of the run.
        reports: Its results table.
        name: Of the model.
        licence: Of the weights.
        datasets: Names that the pretraining sets have on the Hub.
    """
    environment = Environment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    header = ModelCardData(
        license=licence,
        library_name="triptych",
        pipeline_tag="feature-extraction",
        tags=["byol", "self-supervised", "multimodal", "text", "image", "audio"],
        datasets=list(datasets) or None,
        model_name=name,
        eval_results=[result for report in reports for result in _hub_results(report)],
    ).to_yaml()
    body = template.render(
        name=name,
        licence=licence,
        facts=facts,
        reports=reports,
        metric_heading=metric_heading,
        repeats=repeats,
        tell=tell,
        one_line=one_line,
        counters=KINDS,
        rounded=_rounded,
        flat=[(key, one_line(value)) for key, value in flatten(facts.config)],
    )
    return f"---\n{header}\n---\n\n{body.strip()}\n"


def refuse_incomplete_card(text: str, num_results: int) -> None:
    """Read a card back as the Hub does, and look for what it must say.

    Raises:
        ValueError: Names the field of the metadata or the section that is missing.
    """
    data = ModelCard(text, ignore_metadata_errors=False).data
    assert isinstance(data, ModelCardData)
    for field in ("license", "library_name", "pipeline_tag", "tags", "model_name"):
        # Without results there is no model-index, which is where the name lies.
        if not data.get(field) and not (field == "model_name" and num_results == 0):
            raise ValueError(f"README.md: the card's metadata lacks {field}")
    found = len(data.eval_results or [])
    if found != num_results:
        raise ValueError(f"README.md: the card has {found} results, the reports {num_results}")
    missing = [name for name in SECTIONS if f"\n## {name}\n" not in text]
    if missing:
        raise ValueError(f"README.md: the card lacks the section {missing[0]!r}")


def num_results(reports: Sequence[ProbeReport]) -> int:
    """Entries that reports make in a card's ``model-index``."""
    return sum(len(_hub_results(report)) for report in reports)


def _rounded(value: float) -> str:
    """To two figures, or to a whole number; never with an exponent that a large one would have."""
    return f"{value:,.0f}" if value >= 10.0 else f"{value:.2g}"


def _hub_results(report: ProbeReport) -> list[EvalResult]:
    metric = str(report.task["metric"])
    return [
        EvalResult(
            task_type="feature-extraction",
            task_name=f"linear probe, {subset}",
            dataset_type=report.task["name"],
            dataset_name=report.task["name"],
            dataset_config=subset,
            metric_type=_METRIC_TYPES.get(metric, metric),
            metric_name=metric,
            metric_value=round(part.pretrained.metrics[metric].mean, 4),
        )
        for subset, part in report.subsets.items()
    ]
