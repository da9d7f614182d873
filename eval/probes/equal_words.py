"""Equal words on two sides of a split, for the representations that read words alone.

A sentence said by two speakers is two samples, so `eval.probes.contents` takes equal words for a
copy only where samples have nothing else. What reads text alone meets the same input twice: it may
know the sentence's label by heart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Int64

from data_sharding.schema import MODALITIES
from eval.card import Task
from eval.probes.contents import (
    Copies,
    Marks,
    among,
    honest_splits,
    marks_of_samples,
    without_copies,
)
from eval.representations import modalities_of
from eval.samples import TaskSamples
from eval.splits import Split, SplitConfig

EQUAL_WORDS_LEFT_OUT = "left out too where text alone is read"
"""With ``drop``, for the protocol of a report."""
TOO_LITTLE = "without equal words too little is left to learn from"


@dataclass(frozen=True, kw_only=True)
class AsRead:
    """A task's splits as one representation reads them."""

    used: Bool[np.ndarray, "sample"]
    """What it is probed on."""
    splits: tuple[Split, ...]
    """Of the samples that are used; none where leaving equal words out leaves too little."""
    told: str | None
    """What a reader must know of equal words; None: nothing."""


def splits_as_read(
    task: Task,
    samples: TaskSamples,
    splits: Sequence[Split],
    used: Mapping[str, Bool[np.ndarray, "sample"]],
    copies: Copies,
) -> dict[str, AsRead]:
    """The splits of each representation, where equal words are copies if text alone is read.

    What repeats sentences by design (acted speech) repeats them for ``text`` and ``fused_text``,
    and for no other representation, so such a task is not refused: with ``refuse`` a sentence says
    how many test samples are concerned; with ``drop`` they leave the earlier part, of these
    representations alone.

    Args:
        task: Its shards' indexes tell which words are equal.
        samples: Of the task.
        splits: What `eval.probes.contents.honest_splits` made of them.
        used: By representation: samples that it is probed on.
        copies: What becomes of equal words.

    Raises:
        OSError, data_sharding.schema.ShardError: As `eval.probes.contents.marks_of`.
    """
    marks = marks_of_samples(task.parts, samples)
    made: dict[str, AsRead] = {}
    for name, mask in used.items():
        reads = np.array([modality in modalities_of(name) for modality in MODALITIES])
        own = replace(samples, present=samples.present & reads)
        whole = tuple(split.restricted_to(mask) for split in splits)
        if copies == "refuse":
            words = _repeated_words(whole, marks["text"], own)
            made[name] = AsRead(used=mask, splits=whole, told=words)
            continue
        kept, lost = without_copies(whole, marks, own)
        told = f"{lost} samples whose words a later part repeats were left out of an earlier one"
        if any(map(partial(_too_little, own.strata), whole, kept)):
            kept, told = (), f"{TOO_LITTLE} ({lost} samples' words lie in a later part too)"
        made[name] = AsRead(used=mask, splits=kept, told=told if lost else None)
    return made


@dataclass(frozen=True, kw_only=True)
class TaskSplits:
    """A task's splits, whole and as each representation reads them."""

    whole: tuple[Split, ...]
    num_dropped: int
    """Copies that were left out of an earlier part."""
    read: Mapping[str, AsRead]
    """Of the representations that some sample can give."""
    missing: Mapping[str, str]
    """The representations that nothing can be learnt of, each with its reason."""

    def refuse_nothing(self, task: Task, purpose: str) -> None:
        """Refuse a task that leaves nothing.

        Args:
            task: Named in the message.
            purpose: What there is nothing to do: ``probe``, ``learn from``.

        Raises:
            ValueError: Names each representation's reason.
        """
        if not any(part.splits for part in self.read.values()):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.missing.items())
            raise ValueError(f"task {task.name}: nothing to {purpose}: {reasons}")


def split_task(
    task: Task,
    samples: TaskSamples,
    representations: Mapping[str, Bool[np.ndarray, "sample"]],
    config: SplitConfig,
    copies: Copies,
) -> TaskSplits:
    """Split a task without copies on two sides, then as each representation reads it.

    Args:
        task: Its shards' indexes tell what is equal.
        samples: Of the task.
        representations: By name: samples that it may be learnt from.
        config: How it is split.
        copies: What becomes of equal content.

    Raises:
        ValueError, OSError, data_sharding.schema.ShardError: As
            `eval.probes.contents.honest_splits`.
    """
    splits, num_dropped = honest_splits(task, samples, config, copies)
    used = {name: mask for name, mask in representations.items() if mask.any()}
    read = splits_as_read(task, samples, splits, used, copies)
    none = {
        name: f"no labelled sample of {task.name} has {name}"
        for name in representations
        if name not in read
    }
    missing = none | {name: str(part.told) for name, part in read.items() if not part.splits}
    return TaskSplits(whole=splits, num_dropped=num_dropped, read=read, missing=missing)


def _too_little(strata: Int64[np.ndarray, "sample"], whole: Split, kept: Split) -> bool:
    """Whether training lost a class (of numbers: a fifth of the values), or validation all."""
    lost_class = set(strata[whole.train]) != set(strata[kept.train])
    return lost_class or len(kept.validation) < 1 <= len(whole.validation)


def _repeated_words(splits: Sequence[Split], marks: Marks, samples: TaskSamples) -> str | None:
    """How many test samples, of which text alone is read, have words that are learned from."""
    alone = samples.present[:, 0] & ~samples.present[:, 1:].any(axis=1)
    own = np.where(alone, marks, np.uint64(0))
    shares = [
        among(own[split.test], own[np.concatenate([split.train, split.validation])]).sum()
        / max(len(split.test), 1)
        for split in splits
    ]
    if not any(shares):
        return None
    return (
        f"{100 * np.mean(shares):.1f} % of the test samples (mean over splits) have words that "
        "training or validation has too; --copies drop leaves these out there"
    )
