"""What a model card states of a run: read from the checkpoint and its run, never from memory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_sharding.manifest import ShardSet
from data_sharding.schema import MODALITIES, ShardError
from eval.probes.contamination import DATA_FILE, pretraining_sets, without_paths
from eval.records import read_json
from eval.release.energy_facts import EnergyFacts, read_energy
from eval.release.privacy import strip_private, strip_text
from pretrain.checkpoint import Checkpoint
from pretrain.health.verdict import Verdict, load_verdict
from pretrain.models import Backbone

OBJECTIVES = {
    "byol": "multimodal BYOL (an online network learns to predict a slowly following target "
    "network's view of the same sample, within and across modalities)",
    "autoencoder": "a multimodal autoencoder (each modality's content is told from its own "
    "embedding and from the fused one, and the modalities' codes are correlated)",
    "adversarial": "adversarial alignment (generators map each modality's codes to another's, "
    "discriminators tell them apart; the content is reconstructed as an anchor)",
}
"""By the name in the run's configuration."""
NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the card says of the run."""

    step: int
    samples_consumed: int
    digest: str
    world_size: int
    versions: Mapping[str, str]
    """Of the libraries that wrote the checkpoint."""
    hours: float | None
    """Of optimizer steps up to the checkpoint, by the rates that the run logged; None where it
    logged none."""
    energy: EnergyFacts
    num_parameters: Mapping[str, int]
    """By part: text, image, audio, fusion."""
    embed_dims: Mapping[str, int]
    classes: Mapping[str, str]
    """Class of each part: the modalities' encoders and the fusion."""
    objective: str
    """What the weights were trained by, as a sentence's end."""
    exported: tuple[str, ...]
    """Modalities with a transformers folder of their own."""
    onnx: tuple[str, ...]
    """Files of the ``onnx`` folder."""
    started_from: Mapping[str, str]
    """By modality, the name of the checkpoint that an encoder started from."""
    config: Mapping[str, Any]
    """Run configuration, without private words."""
    data: Mapping[str, Any]
    """Samples and sets of the pretraining shards, and whether the run recorded them, or the reason
    why unknown."""
    verdict: Verdict | None
    """On the run's health when the checkpoint was written; None where none was recorded."""
    input_sizes: Mapping[str, Any]


def gather_facts(
    checkpoint: Checkpoint, backbone: Backbone, exported: tuple[str, ...], onnx: tuple[str, ...]
) -> CardFacts:
    """Read everything that the card states.

    Args:
        checkpoint: Its configuration, and its run's metrics.
        backbone: The checkpoint's.
        exported: Modalities with a transformers folder.
        onnx: Names of the ONNX files.
    """
    parts = {**backbone.encoders, "fusion": backbone.fusion}
    config = checkpoint.config
    return CardFacts(
        step=checkpoint.step,
        samples_consumed=checkpoint.samples_consumed,
        digest=checkpoint.digest,
        world_size=checkpoint.world_size,
        versions=checkpoint.versions,
        hours=_hours(checkpoint),
        energy=read_energy(checkpoint),
        num_parameters={
            name: sum(value.numel() for value in part.parameters()) for name, part in parts.items()
        },
        embed_dims=backbone.embed_dims,
        classes={name: type(getattr(part, "model", part)).__name__ for name, part in parts.items()},
        # Runs of before there was a choice do not name it.
        objective=OBJECTIVES[config.get("objective", "byol")],
        exported=exported,
        onnx=onnx,
        started_from=_started_from(config),
        config=strip_private(config),
        data=_describe_data(checkpoint),
        verdict=load_verdict(checkpoint.folder),
        input_sizes=_input_sizes(backbone),
    )


def one_line(value: object) -> str:
    """A value as one Markdown table cell: no line break, no column bar, no tag."""
    text = strip_text(str(value)).replace("\r", " ").replace("\n", " ").strip()
    return text.replace("|", "\\|").replace("<", "&lt;")


def _input_sizes(backbone: Backbone) -> dict[str, Any]:
    stats = backbone.stats
    return {
        "max_tokens": backbone.config.text.max_tokens,
        "size_pixels": backbone.config.image.size_pixels,
        "clip_seconds": backbone.config.audio.clip_seconds,
        "sample_rate_hz": stats.log_mel.sample_rate_hz,
        "num_mels": stats.log_mel.num_mels,
        "vocab_size": stats.vocab_size,
    }


def _hours(checkpoint: Checkpoint) -> float | None:
    """Each logged step stands for those since the one before; waits between starts not counted."""
    path = checkpoint.run / "metrics.jsonl"
    if not path.is_file() or checkpoint.step < 1:
        return None
    per_step = checkpoint.samples_consumed / checkpoint.step
    seconds, last = 0.0, 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            step, rate = int(record["step"]), float(record["speed/samples_per_second"])
        except (ValueError, TypeError, KeyError):
            continue  # a line cut short by a kill, or one without a rate
        if last < step <= checkpoint.step and rate > 0.0:
            seconds += (step - last) * per_step / rate
            last = step
    return seconds / 3600.0 if last else None


def _started_from(config: Mapping[str, Any]) -> dict[str, str]:
    """Towers that did not start from random weights."""
    towers = config.get("backbone")
    found = {}
    for name in MODALITIES:
        tower = towers.get(name) if isinstance(towers, Mapping) else None
        initial = tower.get("initial") if isinstance(tower, Mapping) else None
        if initial:
            found[name] = Path(str(initial)).name
    return found


def _describe_data(checkpoint: Checkpoint) -> dict[str, Any]:
    """Facts of the pretraining shards; where they are not those that were read, the reason.

    A blend may have grown since: only sets that the run had read by then are told of.
    """
    record = checkpoint.run / DATA_FILE
    try:
        sets = pretraining_sets(checkpoint)
        if recorded := record.is_file():
            batch = int(checkpoint.config["batch"]["global_samples"])
            known = _read_by_then(read_json(record), checkpoint.samples_consumed - batch)
            sets = tuple(shards for shards in sets if shards.digest in known)
    except (KeyError, TypeError, OSError, ShardError, ValueError) as error:
        return {"unknown": without_paths(error)}
    return {
        "num_samples": sum(shards.num_samples for shards in sets),
        "sets": [_describe_set(shards) for shards in sets],
        "recorded": recorded,
    }


def _read_by_then(recorded: Mapping[str, Any], last_batch: int) -> set[str]:
    """Digests of the sets with a weight in some phase of the blend that had begun.

    Args:
        recorded: The run's own record.
        last_batch: First sample of the last batch: a phase begins with the first whole one.
    """
    begun = [weights for start, weights in recorded["phases"] if start <= last_batch]
    return {
        part["digest"]
        for place, part in enumerate(recorded["sets"])
        if any(place < len(weights) and weights[place] > 0.0 for weights in begun)
    }


def _describe_set(shards: ShardSet) -> dict[str, Any]:
    files = [Path(str(source.get("file"))).name for source in shards.sources]
    return {
        "name": Path(str(shards.location)).name,
        "num_samples": shards.num_samples,
        "digest": shards.digest,
        "licence": shards.licence or NOT_STATED,
        "sources": ", ".join(files) or NOT_STATED,
    }
