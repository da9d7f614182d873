"""Labels of unseen samples by a head: label, probability, and the weight of each modality."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_sharding.schema import MODALITIES
from eval.release.embed import ReadingConfig, Tally, device_of, embedded_batches, encode_samples
from eval.release.embed_inputs import Broken, Sample, open_inputs, read_inputs
from eval.release.head import Head, load_head
from pretrain.models import Embedder, Embeddings, Encoded
from pretrain.models.fusion import AttentionFusion

ATTENTION = "share of the fusion's attention"
CHANGE = "probability of the label, minus that without the modality"


def predict(
    inputs: Sequence[str], folder: Path, config: ReadingConfig, tally: Tally
) -> Iterator[dict[str, Any]]:
    """One record per sample, in order: id, source, label, probability, probabilities, weights.

    The weight of a modality is the share that an attention fusion gives it. Other fusions have
    no such share: there it is how much the label's probability falls when the modality is left
    out, and None where it is the sample's only one. ``weights_are`` says which.

    Args:
        inputs: Files, folders, tables.
        folder: What `eval.release.head.fit_head` wrote.
        config: How inputs are read.
        tally: Counts what was labelled and what was left out.

    Raises:
        ValueError: No head, or an input that is none; unless these are skipped, a broken sample or
            one with none of the modalities that the head has learned from.
    """
    opened = open_inputs(inputs, config.source)
    head = load_head(folder)
    embedder = Embedder(head.backbone, device_of(config.device), config.batch_size)
    known = (_with_learned(sample, head.learned) for sample in read_inputs(opened))
    for samples, made in embedded_batches(known, embedder, config, tally):
        probabilities = head.probabilities(made.fused.double().numpy())
        labels = probabilities.argmax(1)
        kind, weights = _weights(samples, made, head, embedder, probabilities)
        for row, sample in enumerate(samples):
            yield {
                "id": sample.id,
                "source": sample.source,
                "label": head.classes[labels[row]],
                "probability": float(probabilities[row, labels[row]]),
                "probabilities": dict(
                    zip(head.classes, map(float, probabilities[row]), strict=True)
                ),
                "weights": weights[row],
                "weights_are": kind,
            }


def _with_learned(sample: Sample | Broken, learned: Sequence[str] | None) -> Sample | Broken:
    """The sample; or why it has no label, where the head has learned from nothing that it has."""
    if learned is None or isinstance(sample, Broken):
        return sample
    there = [name for name in MODALITIES if getattr(sample, name) is not None]
    if set(there) & set(learned):
        return sample
    reason = f"has {' and '.join(there)} alone; the head has learned from {' and '.join(learned)}"
    return Broken(id=sample.id, source=sample.source, reason=reason)


def _weights(
    samples: Sequence[Sample],
    made: Embeddings,
    head: Head,
    embedder: Embedder,
    probabilities: np.ndarray,
) -> tuple[str, list[dict[str, float | None]]]:
    """What the weights are, and those of each sample's own modalities."""
    fusion = head.backbone.fusion
    if isinstance(fusion, AttentionFusion):
        return ATTENTION, _attention(made, head, fusion)
    weights: list[dict[str, float | None]] = [{} for _ in samples]
    present = made.present
    for column, name in enumerate(MODALITIES):
        for row in present[:, column].nonzero().flatten().tolist():
            weights[row][name] = None
        rows = (present[:, column] & (present.sum(1) > 1)).nonzero().flatten().tolist()
        if not rows:
            continue
        fewer = [replace(samples[row], **{name: None}) for row in rows]
        without = head.probabilities(encode_samples(embedder, fewer).fused.double().numpy())
        for row, chances in zip(rows, without, strict=True):
            label = probabilities[row].argmax()
            weights[row][name] = float(probabilities[row, label] - chances[label])
    return CHANGE, weights


@torch.no_grad()
def _attention(
    made: Embeddings, head: Head, fusion: AttentionFusion
) -> list[dict[str, float | None]]:
    device = head.backbone.image_mean.device
    pooled = {name: getattr(made, name).to(device) for name in MODALITIES}
    # This fusion looks at no tokens; each embedding stands for its only one.
    encoded = {name: Encoded.of_whole(value, value[:, None]) for name, value in pooled.items()}
    shares = fusion.modality_weights(encoded, made.present.to(device)).cpu()
    return [
        {name: float(share) for name, share, has in zip(MODALITIES, row, there, strict=True) if has}
        for row, there in zip(shares, made.present, strict=True)
    ]
