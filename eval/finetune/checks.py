"""What would end fine-tuning late, refused before anything is trained."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from eval.card import TaskCard
from eval.finetune.config import FineTuneConfig
from eval.probes.linear_probe import SplitProblem
from eval.probes.regression import Problem
from eval.splits import refuse_leakage

NUM_NAMED = 5
"""Faults that a refusal lists; the others are counted."""


def refuse_bad_splits(card: TaskCard, problems: Mapping[str, Sequence[Problem]]) -> None:
    """Look at every split of every representation.

    Args:
        card: Of the task; names the classes.
        problems: Of each representation, by split.

    Raises:
        ValueError: A group lies in two parts of a split, a part is empty, or a class has no
            training sample; names representation, split and class, and what helps.
    """
    found = [
        f"{name}, split {place} of {len(posed)}: {fault}"
        for name, posed in problems.items()
        for place, problem in enumerate(posed, start=1)
        for fault in _faults(card, problem)
    ]
    if not found:
        return
    more = f"; and {len(found) - NUM_NAMED} more" if len(found) > NUM_NAMED else ""
    splits = "another --splits.seed, smaller --splits.test-share and --splits.validation-share"
    if card.fixed_parts:
        splits = "another --splits.seed, --splits.train-share 1"
    raise ValueError(
        f"task {card.name}: nothing was trained, because of {'; '.join(found[:NUM_NAMED])}{more}. "
        f"What helps: {splits}, or --representations without those that are named"
    )


def refuse_idle_dropout(config: FineTuneConfig, reads: Iterable[Sequence[str]]) -> None:
    """Modality dropout changes nothing where every representation reads one modality alone.

    Args:
        config: How is fine-tuned.
        reads: The modalities of each representation.

    Raises:
        ValueError: It is asked for, and none reads several.
    """
    if config.modality_dropout and all(len(modalities) < 2 for modalities in reads):
        raise ValueError(
            "finetune.modality_dropout is of no use here: none of the representations reads "
            "several modalities"
        )


def refuse_unwritable(path: Path) -> None:
    """Create the folder that a file or folder is to lie in, and write there to see that it goes.

    Raises:
        ValueError: It does not; says why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(b"0")
    except OSError as error:
        raise ValueError(f"{path} could not be written: {error}") from None


def _faults(card: TaskCard, problem: Problem) -> Iterator[str]:
    try:
        refuse_leakage(problem.split, problem.groups)
    except ValueError as error:
        yield str(error)
        return
    if isinstance(problem, SplitProblem):
        taught = set(problem.labels[problem.split.train].tolist())
        absent = [repr(label) for place, label in enumerate(card.classes) if place not in taught]
        if absent:
            yield f"no training sample is {', '.join(absent)}"
