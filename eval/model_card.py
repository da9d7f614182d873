"""The model card: generated from the run and its stored probe reports, never from memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from data_sharding.schema import DEFAULT_SPLIT, ShardError
from data_sharding.stream.source import open_stream
from eval.privacy import strip_private, strip_text
from eval.probe_report import ProbeReport, percent
from eval.records import flatten
from pretrain.checkpoint import Checkpoint
from pretrain.models import Backbone

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
OBJECTIVES = {
    "byol": "multimodal BYOL (an online network learns to predict a slowly following target "
    "network's view of the same sample, within and across modalities)",
    "autoencoder": "a multimodal autoencoder (each modality's content is told from its own "
    "embedding and from the fused one, and the modalities' codes are correlated)",
    "adversarial": "adversarial alignment (generators map each modality's codes to another's, "
    "discriminators tell them apart; the content is reconstructed as an anchor)",
}
"""By the name in the run's configuration."""
_METRIC_TYPES = {
    "macro_f1": "f1",
    "weighted_f1": "f1",
    "accuracy": "accuracy",
    "balanced_accuracy": "accuracy",
}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the card says of the run."""

    step: int
    samples_consumed: int
    digest: str
    num_parameters: Mapping[str, int]
    """By part: text, image, audio, fusion."""
    embed_dims: Mapping[str, int]
    classes: Mapping[str, str]
    """Class of each part: the modalities' encoders and the fusion."""
    objective: str
    """What the weights were trained by, as a sentence's end."""
    exported: tuple[str, ...]
    """Modalities with a transformers folder of their own."""
    config: Mapping[str, Any]
    """Run configuration, without private words."""
    data: Mapping[str, Any]
    """Samples, digest, sources and licence of the pretraining shards, or the reason why unknown."""
    input_sizes: Mapping[str, Any]


def gather_facts(
    checkpoint: Checkpoint, backbone: Backbone, exported: tuple[str, ...]
) -> CardFacts:
    """Read everything that the card states from the checkpoint itself."""
    parts = {**backbone.encoders, "fusion": backbone.fusion}
    stats = backbone.stats
    return CardFacts(
        step=checkpoint.step,
        samples_consumed=checkpoint.samples_consumed,
        digest=checkpoint.digest,
        num_parameters={
            name: sum(value.numel() for value in part.parameters()) for name, part in parts.items()
        },
        embed_dims=backbone.embed_dims,
        classes={name: type(getattr(part, "model", part)).__name__ for name, part in parts.items()},
        # Runs of before there was a choice do not name it.
        objective=OBJECTIVES[checkpoint.config.get("objective", "byol")],
        exported=exported,
        config=strip_private(checkpoint.config),
        data=_describe_data(checkpoint.config),
        input_sizes={
            "max_tokens": backbone.config.text.max_tokens,
            "size_pixels": backbone.config.image.size_pixels,
            "clip_seconds": backbone.config.audio.clip_seconds,
            "sample_rate_hz": stats.log_mel.sample_rate_hz,
            "num_mels": stats.log_mel.num_mels,
            "vocab_size": stats.vocab_size,
        },
    )


def render_card(facts: CardFacts, reports: Sequence[ProbeReport], name: str, licence: str) -> str:
    """Text of the card: metadata for the Hub, then what a reader needs to judge and to load it."""
    environment = Environment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    header = ModelCardData(
        license=licence,
        library_name="triptych",
        pipeline_tag="feature-extraction",
        tags=["byol", "self-supervised", "multimodal", "text", "image", "audio"],
        model_name=name,
        eval_results=[result for report in reports for result in _hub_results(report)],
    ).to_yaml()
    body = template.render(
        name=name,
        licence=licence,
        facts=facts,
        reports=reports,
        percent=percent,
        one_line=one_line,
        flat=[(key, one_line(value)) for key, value in flatten(facts.config)],
    )
    return f"---\n{header}\n---\n\n{body.strip()}\n"


def one_line(value: object) -> str:
    """A value as one Markdown table cell: no line break, no column bar, no tag."""
    text = strip_text(str(value)).replace("\r", " ").replace("\n", " ").strip()
    return text.replace("|", "\\|").replace("<", "&lt;")


def _hub_results(report: ProbeReport) -> list[EvalResult]:
    metric = report.task["metric"]
    return [
        EvalResult(
            task_type="feature-extraction",
            task_name=f"linear probe, {subset}",
            dataset_type=report.task["name"],
            dataset_name=report.task["name"],
            dataset_config=subset,
            metric_type=_METRIC_TYPES[metric],
            metric_name=metric,
            metric_value=round(part.pretrained.metrics[metric].mean, 4),
        )
        for subset, part in report.subsets.items()
    ]


def _describe_data(config: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the pretraining shards; where they cannot be read, the reason."""
    part = _part_with_shards(config)
    if part is None:
        return {"unknown": "the run's configuration names no shard set"}
    try:
        stream = open_stream(part["shards"], part.get("split", DEFAULT_SPLIT))
    except (ShardError, OSError, ValueError) as error:
        return {"unknown": one_line(error)}
    sources = [source for shards in stream.sets for source in shards.sources]
    licences = [shards.licence or "not stated" for shards in stream.sets]
    return {
        "num_samples": stream.num_samples,
        "digest": stream.digest,
        "licence": ", ".join(dict.fromkeys(licences)),
        "sources": ", ".join(Path(str(source.get("file"))).name for source in sources),
    }


def _part_with_shards(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The part of the configuration, at any depth, that names the shard set."""
    if isinstance(config.get("shards"), str):
        return config
    nested = (_part_with_shards(part) for part in config.values() if isinstance(part, Mapping))
    return next((found for found in nested if found is not None), None)
