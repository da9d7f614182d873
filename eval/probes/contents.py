"""What samples are, by the checksums in their shards' indexes: equal content is known unread.

A part's content is known by its length and CRC32 together. Content that was encoded anew, or cut
otherwise, is not known again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt64

from data_sharding.index import ShardIndex, decode_index
from data_sharding.manifest import ShardSet
from data_sharding.schema import MODALITIES, PARTS, modality_of
from data_sharding.storage import join, read_bytes
from eval.card import Task
from eval.probes.problems import task_splits
from eval.samples import TaskSamples
from eval.splits import Split, SplitConfig

MIN_WORDS = 5
"""Shorter texts repeat by themselves ("What?") and are no copies of each other."""

Copies = Literal["refuse", "drop"]
"""What becomes of a sample whose content a later part of the split repeats."""

Mark = UInt64[np.ndarray, "mark"]
Marks = UInt64[np.ndarray, "sample"]
"""Length and CRC32 of one modality's content; 0 where there is none."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A sample whose content a later part of the split repeats."""

    modality: str
    row: int
    part: str
    later_row: int
    later_part: str


def marks_of(shards: ShardSet) -> Iterator[Mapping[str, Marks]]:
    """Marks of each shard's samples by modality, shard by shard in the order of the set.

    Of main parts; alternatives are other content of the same sample.

    Raises:
        OSError: An index cannot be read.
        data_sharding.schema.ShardError: An index is broken.
    """
    for index in _indexes(shards):
        whole = _part_marks(index)
        yield {
            name: np.max(
                whole[:, [PARTS.get(part) == name for part in index.parts]],
                axis=1,
                initial=np.uint64(0),
            )
            for name in MODALITIES
        }


def all_marks_of(shards: ShardSet) -> Iterator[Mapping[str, Mark]]:
    """Marks of each shard's content by modality, alternatives among it, each once.

    Raises:
        OSError, data_sharding.schema.ShardError: As `marks_of`.
    """
    for index in _indexes(shards):
        whole = _part_marks(index)
        held = [modality_of(PARTS.get(part, "")) for part in index.parts]
        yield {name: np.unique(whole[:, [found == name for found in held]]) for name in MODALITIES}


def marks_of_samples(parts: Sequence[ShardSet], samples: TaskSamples) -> Mapping[str, Marks]:
    """Marks of a task's labelled samples, by modality; of texts, those of `MIN_WORDS` or more.

    Raises:
        OSError, data_sharding.schema.ShardError: As `marks_of`.
    """
    assert samples.places is not None
    found = [marks for shards in parts for marks in marks_of(shards)]
    whole = {name: np.concatenate([part[name] for part in found]) for name in MODALITIES}
    marks = {name: values[samples.places] for name, values in whole.items()}
    words = np.array([len((text or "").split()) for text in samples.texts])
    return marks | {"text": np.where(words >= MIN_WORDS, marks["text"], np.uint64(0))}


def copies_across(
    split: Split, marks: Mapping[str, Marks], present: Bool[np.ndarray, "sample 3"]
) -> list[Copy]:
    """Samples of training whose picture or recording is validated on or tested, and so on.

    Equal words make copies only where both samples have nothing else that is read: a sentence that
    many people say is not one sample.

    Args:
        split: The parts.
        marks: By modality.
        present: What each sample has; or what of that a representation reads.
    """
    alone = present[:, 0] & ~present[:, 1:].any(axis=1)
    found: list[Copy] = []
    for modality in MODALITIES:
        own = marks[modality] if modality != "text" else np.where(alone, marks["text"], 0)
        later: dict[int, tuple[int, str]] = {}
        for part in ("test", "validation", "train"):
            rows = [int(row) for row in getattr(split, part) if own[row]]
            for row in rows:
                if (hit := later.get(int(own[row]))) is not None:
                    found.append(
                        Copy(
                            modality=modality,
                            row=row,
                            part=part,
                            later_row=hit[0],
                            later_part=hit[1],
                        )
                    )
            for row in rows:
                later.setdefault(int(own[row]), (row, part))
    return found


def refuse_copies(
    splits: Sequence[Split], marks: Mapping[str, Marks], samples: TaskSamples
) -> None:
    """Refuse splits that test, or choose by, a copy of what was trained on.

    Raises:
        ValueError: Lists up to five pairs.
    """
    pairs: dict[tuple[str, int, int], str] = {}
    for split in splits:
        for copy in copies_across(split, marks, samples.present):
            told = (
                f"{copy.modality} of {samples.ids[copy.row]!r} ({copy.part}) and "
                f"{samples.ids[copy.later_row]!r} ({copy.later_part})"
            )
            pairs.setdefault((copy.modality, copy.row, copy.later_row), told)
    if pairs:
        raise ValueError(
            f"{len(pairs)} pairs of samples with equal content lie on two sides of a split: "
            f"{'; '.join(list(pairs.values())[:5])}. Give them one group when the task is made, or "
            "leave the repeated ones out of training with --copies drop"
        )


def without_copies(
    splits: Sequence[Split], marks: Mapping[str, Marks], samples: TaskSamples
) -> tuple[tuple[Split, ...], int]:
    """The splits without the samples that a later part repeats, and how many any split lost."""
    made: list[Split] = []
    lost: set[int] = set()
    for split in splits:
        repeated = {copy.row for copy in copies_across(split, marks, samples.present)}
        mask = np.ones(len(samples.ids), dtype=bool)
        mask[list(repeated)] = False
        made.append(split.restricted_to(mask))
        lost |= repeated
    return tuple(made), len(lost)


def honest_splits(
    task: Task, samples: TaskSamples, config: SplitConfig, copies: Copies
) -> tuple[tuple[Split, ...], int]:
    """The task's splits without a copy on two sides, and how many samples that cost.

    Args:
        task: Its shards' indexes tell what is a copy of what.
        samples: Of the task.
        config: How it is split.
        copies: ``refuse`` lists the copies; ``drop`` takes them out of the earlier part.

    Raises:
        ValueError: As `eval.probes.problems.task_splits`, or there are copies and they are refused.
        OSError, data_sharding.schema.ShardError: As `marks_of`.
    """
    splits, marks = task_splits(samples, config), marks_of_samples(task.parts, samples)
    if copies == "drop":
        return without_copies(splits, marks, samples)
    refuse_copies(splits, marks, samples)
    return splits, 0


def told_of_dropped(num_dropped: int) -> Iterator[str]:
    """What a reader must know of copies that were left out."""
    if num_dropped:
        yield f"{num_dropped} samples that a later part repeats were left out of an earlier one"


def among(marks: Marks, seen: Mark) -> Bool[np.ndarray, "sample"]:
    """Which of the marks are seen; none (0) never is."""
    return (marks > 0) & np.isin(marks, seen)


def _indexes(shards: ShardSet) -> Iterator[ShardIndex]:
    for shard in shards.shards:
        location = join(shards.location, shard.index_file)
        yield decode_index(read_bytes(location), location)


def _part_marks(index: ShardIndex) -> UInt64[np.ndarray, "sample part"]:
    lengths = index.part_lengths.astype(np.uint64)
    return np.where(lengths > 0, lengths << np.uint64(32) | index.part_crc32, np.uint64(0))
