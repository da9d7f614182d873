"""One pass of frozen backbones over a task's samples.

The samples are decoded once and every backbone reads the same batches, so a random-initialised
floor costs a forward pass and no second read of the shards.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from data_sharding.batch import TripleBatch
from eval.card import Task
from eval.probes.attentive_tokens import TokenStore, TokenTable, token_modalities
from eval.representations import SUBSETS, represent_encoded
from eval.samples import Reader, TaskSamples, read_samples, task_batches
from pretrain.models import Backbone


@dataclass(frozen=True, kw_only=True)
class Features:
    """What one frozen backbone makes of the samples."""

    by_subset: Mapping[str, Float32[np.ndarray, "sample dim"]]
    """Rows as in `TaskSamples`; rows of a missing modality mean nothing."""
    parameters_sha256: str
    """Digest of parameters and buffers, the same before and after the pass."""
    tokens: TokenTable | None = None
    """The encoders' tokens, where they were asked for."""


def extract_features(
    backbones: Mapping[str, Backbone],
    task: Task,
    batch_size: int = 64,
    names: Sequence[str] = SUBSETS,
    tokens_of: Sequence[str] = (),
) -> tuple[TaskSamples, dict[str, Features]]:
    """Read the task once and encode every labelled sample with every backbone.

    Args:
        backbones: All must share one preprocessing (those of `Backbone.random_like` do).
        task: What to read.
        batch_size: Samples of one forward pass.
        names: Representations to read, see `eval.representations`.
        tokens_of: Names of the backbones whose encoders' tokens are kept as well.

    Raises:
        ValueError: No labelled sample, an unknown label, a sample without its group, an id in two
            groups, features that are not finite, backbones that preprocess differently, or tokens
            that do not fit in memory.
    """
    if len({preprocessing_digest(model) for model in backbones.values()}) != 1:
        raise ValueError(f"backbones {', '.join(backbones)} need different preprocessing")
    digests = {name: parameters_digest(model) for name, model in backbones.items()}
    read = token_modalities(task, names)
    stores = {
        name: TokenStore(task=task, modalities=read, num_stores=len(tokens_of))
        for name in tokens_of
    }
    readers = {
        name: _reader(model.eval(), names, stores.get(name)) for name, model in backbones.items()
    }
    samples, outputs = read_samples(next(iter(backbones.values())), task, batch_size, readers)
    features: dict[str, Features] = {}
    for name, model in backbones.items():
        if parameters_digest(model) != digests[name]:
            raise AssertionError(f"backbone {name} changed while features were read")
        for subset, values in outputs[name].items():
            refuse_non_finite(values[samples.has(subset)], subset, f"{name} backbone")
        features[name] = Features(by_subset=outputs[name], parameters_sha256=digests[name])
    for name, store in stores.items():
        features[name] = replace(features[name], tokens=store.table(samples))
    return samples, features


def recompute_batch_norm(backbones: Sequence[Backbone], task: Task, batch_size: int = 64) -> None:
    """Give fresh backbones batch-norm statistics of the task's inputs, labels unread.

    A fresh network's running statistics are 0 and 1, which cripples it and would flatter
    whatever is compared with it. Networks without such statistics are left alone and cost nothing.
    """
    norms = [_running_norms(backbone) for backbone in backbones]
    if not any(norms):
        return
    for norm in (norm for found in norms for norm in found):
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
        norm.train()
    for batch in task_batches(backbones[0], task.shards, batch_size):
        if len(batch) > 1:  # statistics of one row are none
            for backbone in backbones:
                backbone.encode(batch)
    for backbone in backbones:
        backbone.eval()


def preprocessing_digest(backbone: Backbone) -> str:
    """sha256 over all that decides what a backbone's decoder and preprocessing make of bytes."""
    described = f"{backbone.preprocess().config} {backbone.stats.log_mel.sample_rate_hz} "
    return hashlib.sha256(described.encode() + backbone.tokenizer_file.read_bytes()).hexdigest()


def parameters_digest(model: nn.Module) -> str:
    """sha256 over names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _reader(backbone: Backbone, names: Sequence[str], store: TokenStore | None) -> Reader:
    @torch.no_grad()
    def read(batch: TripleBatch) -> dict[str, Float32[np.ndarray, "batch _"]]:
        encoded = backbone.embed(backbone.inputs(batch))
        if store is not None:
            store.add(encoded)
        values = represent_encoded(backbone, encoded, batch.present, names)
        return {name: value.float().cpu().numpy() for name, value in values.items()}

    return read


def refuse_non_finite(values: Float32[np.ndarray, "row dim"], name: str, whose: str) -> None:
    """Refuse features with NaN or an infinity: no score of them means anything.

    Raises:
        ValueError: Names the representation and how many rows there are.
    """
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{whose}: {int(bad.sum())} {name} features are not finite; these weights are unfit "
            "to be measured"
        )


def _running_norms(backbone: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [
        module
        for module in backbone.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
