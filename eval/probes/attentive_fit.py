"""Training of attentive probes on one split: a grid in one go, of which validation keeps one."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from eval.probes.attentive import AttentiveConfig, AttentiveHead
from eval.probes.attentive_tokens import ByModality, TokenTable
from eval.probes.linear_probe import SplitProblem, refuse_absent_classes
from eval.probes.regression import Problem, selection_mark
from eval.splits import refuse_leakage

CPU = torch.device("cpu")
ROWS_AT_ONCE = 512
"""Samples that are read at a time where nothing is learned."""
LEAST_DEVIATION = 1e-6
"""Dimensions of tokens that vary by less are only centred."""

Rows = Int64[np.ndarray, "row"]


@dataclass(frozen=True, kw_only=True)
class FittedAttentive:
    """A probe that has seen no test sample."""

    head: AttentiveHead
    reader: "_Reader"
    target: "_Target"
    learning_rate: float
    """What validation chose."""
    epoch: int
    """After which it stopped, from 1."""
    mark: float
    """`selection_mark` on validation, with what was chosen."""

    def votes(self, rows: Rows) -> Float[np.ndarray, "row vote"]:
        """Class probabilities, or the number within its bounds, of some samples."""
        (outputs,) = _outputs([self.head], self.reader, rows)
        return self.target.votes(outputs)


def fit_attentive(
    table: TokenTable,
    problem: Problem,
    config: AttentiveConfig,
    seed: int,
    device: torch.device = CPU,
) -> FittedAttentive:
    """Train a probe for each learning rate, and keep the best rate and epoch.

    By macro-F1 on validation, or mean absolute error where the label is a number; of equals the
    earlier epoch, then the smaller rate.

    Args:
        table: Tokens of all samples.
        problem: Labels, groups and the split.
        config: The probe, its grid and its training.
        seed: Draws first weights and the order of samples.
        device: Where it is trained.

    Raises:
        ValueError: A group in two parts, an empty part, a class without a training sample, or
            tokens that are not finite.
    """
    split, rates = problem.split, config.learning_rates
    refuse_leakage(split, problem.groups)
    if isinstance(problem, SplitProblem):
        refuse_absent_classes(problem.labels[split.train], problem.num_classes)
    reader, target = _reader_of(table, split.train, device), _target_of(problem, device)
    heads = [_fresh_head(table, target, config, seed).to(device) for _ in rates]
    best: FittedAttentive | None = None
    for epoch in _train(heads, (reader, target), split.train, config, seed):
        for head, rate, outputs in zip(
            heads, rates, _outputs(heads, reader, split.validation), strict=True
        ):
            decided = problem.decide(target.votes(outputs))
            mark = selection_mark(problem.score(split.validation, decided))
            if best is None or mark > best.mark:
                best = FittedAttentive(
                    head=copy.deepcopy(head),
                    reader=reader,
                    target=target,
                    learning_rate=rate,
                    epoch=epoch,
                    mark=mark,
                )
    assert best is not None  # there is an epoch and a rate
    return best


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Tokens of samples, standardised by those of the training part."""

    table: TokenTable
    moments: Mapping[str, tuple[Tensor, Tensor]]
    """Mean and deviation of each dimension, by modality."""
    device: torch.device

    def read(self, rows: Int64[Tensor, "row"]) -> tuple[ByModality, ByModality]:
        """Tokens and masks by modality; tokens that do not count are 0."""
        tokens, masks = self.table.at(rows, self.device)
        for name, (mean, deviation) in self.moments.items():
            standard = (tokens[name] - mean) / deviation
            tokens[name] = standard.masked_fill(~masks[name][:, :, None], 0.0)
        return tokens, masks


@dataclass(frozen=True, kw_only=True)
class _Target:
    """What is learned: classes, or numbers of mean 0 and deviation 1."""

    labels: Tensor
    """Of all samples."""
    num_outputs: int
    scale: tuple[float, float] | None = None
    """Mean and deviation of the training part's numbers; None of classes."""
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def loss(
        self, outputs: Float[Tensor, "row output"], rows: Int64[Tensor, "row"]
    ) -> Float[Tensor, ""]:
        """Cross-entropy, or the mean absolute error."""
        labels = self.labels[rows.to(self.labels.device)]
        if self.scale is None:
            return F.cross_entropy(outputs, labels)
        return F.l1_loss(outputs[:, 0], labels)

    def votes(self, outputs: Float[Tensor, "row output"]) -> Float[np.ndarray, "row vote"]:
        """Class probabilities, or the number within its bounds."""
        exact = outputs.double()
        if self.scale is None:
            return exact.softmax(1).cpu().numpy()
        mean, deviation = self.scale
        return (exact * deviation + mean).clamp(*self.bounds).cpu().numpy()


def _target_of(problem: Problem, device: torch.device) -> _Target:
    if isinstance(problem, SplitProblem):
        labels = torch.from_numpy(problem.labels).to(device)
        return _Target(labels=labels, num_outputs=problem.num_classes)
    taught = problem.labels[problem.split.train]
    mean, deviation = float(taught.mean()), max(float(taught.std()), LEAST_DEVIATION)
    standard = torch.from_numpy((problem.labels - mean) / deviation).float()
    return _Target(
        labels=standard.to(device), num_outputs=1, scale=(mean, deviation), bounds=problem.bounds
    )


def _fresh_head(
    table: TokenTable, target: _Target, config: AttentiveConfig, seed: int
) -> AttentiveHead:
    generator = torch.Generator().manual_seed(seed)
    return AttentiveHead(table.dims, target.num_outputs, config, generator)


def _reader_of(table: TokenTable, train: Rows, device: torch.device) -> _Reader:
    """Standardisation of the training part's tokens, modality by modality.

    Raises:
        ValueError: Tokens that are not finite.
    """
    sums = {name: torch.zeros(2, dim, dtype=torch.float64) for name, dim in table.dims.items()}
    counts = dict.fromkeys(table.dims, 0)
    for rows in torch.from_numpy(train).split(ROWS_AT_ONCE):
        tokens, masks = table.at(rows, CPU)
        for name, values in tokens.items():
            real = values[masks[name]].double()
            sums[name] += torch.stack([real.sum(0), (real * real).sum(0)])
            counts[name] += len(real)
    moments: dict[str, tuple[Tensor, Tensor]] = {}
    for name, (total, squares) in sums.items():
        mean = total / max(counts[name], 1)
        deviation = (squares / max(counts[name], 1) - mean * mean).clamp(min=0.0).sqrt()
        if not (torch.isfinite(mean).all() and torch.isfinite(deviation).all()):
            raise ValueError(
                f"{name} tokens are not finite; these weights are unfit to be measured"
            )
        deviation = torch.where(deviation < LEAST_DEVIATION, torch.ones_like(deviation), deviation)
        moments[name] = mean.float().to(device), deviation.float().to(device)
    return _Reader(table=table, moments=moments, device=device)


def _train(
    heads: Sequence[AttentiveHead],
    given: tuple[_Reader, _Target],
    train: Rows,
    config: AttentiveConfig,
    seed: int,
) -> Iterator[int]:
    """Trains all heads on the same batches; yields after each epoch its number."""
    (reader, target), generator = given, torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(_groups(heads, config))
    steps = config.epochs * math.ceil(len(train) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * step / steps))
    )
    places = torch.from_numpy(train)
    for epoch in range(config.epochs):
        order = places[torch.randperm(len(places), generator=generator)]
        for rows in order.split(config.batch_size):
            tokens, masks = reader.read(rows)
            losses = [target.loss(head(tokens, masks), rows) for head in heads]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # the heads share nothing: each has its own
            optimizer.step()
            schedule.step()
        yield epoch + 1


def _groups(heads: Sequence[AttentiveHead], config: AttentiveConfig) -> list[dict]:
    """Each head with its learning rate; its matrices decay, its query and its biases do not."""
    made = []
    for head, rate in zip(heads, config.learning_rates, strict=True):
        decaying = [*head.keys.values(), *head.values.values(), head.weight]
        others = [head.query, head.bias, *head.leanings.values()]
        made.append({"params": decaying, "lr": rate, "weight_decay": config.weight_decay})
        made.append({"params": others, "lr": rate, "weight_decay": 0.0})
    return made


@torch.no_grad()
def _outputs(
    heads: Sequence[AttentiveHead], reader: _Reader, rows: Rows
) -> list[Float[Tensor, "row output"]]:
    """What each head says of some samples."""
    parts = [
        [head(*found) for head in heads]
        for found in map(reader.read, torch.from_numpy(rows).split(ROWS_AT_ONCE))
    ]
    return [torch.cat(made) for made in zip(*parts, strict=True)]
