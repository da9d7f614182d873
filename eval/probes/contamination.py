"""What of a task's test samples pretraining has seen, told from the shards' indexes alone."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from data_sharding.manifest import ShardSet
from data_sharding.schema import DEFAULT_SPLIT, MODALITIES, ShardError
from data_sharding.stream.source import open_stream
from eval.card import Task
from eval.probes.contents import Mark, all_marks_of, among, marks_of_samples
from eval.samples import TaskSamples
from pretrain.checkpoint import Checkpoint

DATA_FILE = "data.json"
"""The run's own record of the sets that it reads."""

NUM_NAMED = 20


def find_contamination(checkpoint: Checkpoint, task: Task, samples: TaskSamples) -> dict[str, Any]:
    """Test samples whose very picture, recording or words lie in the pretraining shards.

    Equal bytes are found, also among the pretraining samples' alternatives, and texts of five words
    or more; what was encoded anew is not. Where the shards cannot be read, that is what is told:
    nothing is known then.

    Returns:
        For the probe report, without paths: ``checked``, and then either ``reason``, or digests of
        the sets, counts by modality, and the ids of some of the samples.
    """
    try:
        sets = pretraining_sets(checkpoint)
        seen = _seen(sets)
    except (KeyError, TypeError, OSError, ShardError, ValueError) as error:
        return {"checked": False, "reason": without_paths(error)}
    marks, tested = marks_of_samples(task.parts, samples), _tested(samples)
    hits = {name: tested & among(marks[name], seen[name]) for name in MODALITIES}
    rows = np.flatnonzero(np.logical_or.reduce(list(hits.values())))
    return {
        "checked": True,
        "sets": [{"digest": part.digest, "num_samples": part.num_samples} for part in sets],
        "num_tested": int(tested.sum()),
        "num_seen": len(rows),
        "seen_by_modality": {name: int(found.sum()) for name, found in hits.items()},
        "some_seen": [samples.ids[row] for row in rows[:NUM_NAMED]],
    }


def pretraining_sets(checkpoint: Checkpoint) -> tuple[ShardSet, ...]:
    """The sets of the run's stream, if they are still those that it recorded.

    Raises:
        ValueError: A set was altered since.
        KeyError, TypeError: The configuration names no shards.
        OSError, ShardError: They cannot be read.
    """
    data = checkpoint.config["data"]
    sets = open_stream(data["shards"], data.get("split", DEFAULT_SPLIT)).sets
    record = checkpoint.run / DATA_FILE
    if record.is_file():
        recorded = [part["digest"] for part in json.loads(record.read_text("utf-8"))["sets"]]
        if set(recorded) - {part.digest for part in sets}:
            raise ValueError("altered")
    return sets


def _seen(sets: tuple[ShardSet, ...]) -> Mapping[str, Mark]:
    """Every mark of the pretraining shards, alternatives among it (views show them), each once."""
    found: dict[str, list[Mark]] = {name: [np.zeros(0, dtype=np.uint64)] for name in MODALITIES}
    for shards in sets:
        for marks in all_marks_of(shards):
            for name in MODALITIES:
                found[name].append(marks[name])
    return {name: np.unique(np.concatenate(parts)) for name, parts in found.items()}


def _tested(samples: TaskSamples) -> Bool[np.ndarray, "sample"]:
    """Samples that any split tests: the authors' test part, or all that is split at random."""
    mask = np.zeros(len(samples.ids), dtype=bool)
    if samples.fixed is not None:
        mask[samples.fixed.test] = True
    else:
        mask[: samples.num_testable] = True
    return mask


def without_paths(error: Exception) -> str:
    """In words, without a path: reports travel."""
    if isinstance(error, KeyError | TypeError):
        return "the run's configuration names no shard set"
    if str(error) == "altered":
        return "the pretraining shards were altered since the run read them"
    return f"the pretraining shards cannot be read any more ({type(error).__name__})"
