"""What a resumed run may change, and what has changed."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from launch.errors import DriftError
from pretrain.config import PretrainConfig, config_to_json

MAY_CHANGE = (
    "data.shards",  # what is there is compared by its digest: launch.run_data
    "data.stats",  # likewise: `refuse_other_statistics`
    "data.loader.num_workers",
    "data.loader.prefetch_batches",
    "data.loader.reader",
    "data.loader.faults",
    "backbone.text.initial",  # read by a fresh start alone
    "backbone.image.initial",
    "backbone.audio.initial",
    "batch.micro_samples",
    "zero_stage",
    "compile",
    "kernels",
    "activation_checkpointing",
    "checkpoint",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "log_every_steps",
    "evaluate_every_steps",
    "max_skipped_in_a_row",
    "health",
)
"""Options, and parts of them, that decide no weight, or only how it is rounded."""


def find_drift(before: Mapping[str, Any], now: PretrainConfig) -> dict[str, str]:
    """Options that differ, by name: ``0.001 -> 0.002``.

    Args:
        before: The configuration in a checkpoint. An option that it lacks had its default value.
        now: Of the run that goes on from it.
    """
    default = _flat(config_to_json(PretrainConfig(data=now.data)))
    old, new = default | _flat(before), _flat(config_to_json(now))
    return {
        name: f"{old[name]} -> {new.get(name, '(there is no such option)')}"
        for name in sorted(old)
        if name not in new or old[name] != new[name]
    }


def refuse_drift(drift: Mapping[str, str], allowed: Sequence[str], where: str) -> None:
    """Refuse a change of what decides the weights, unless it was allowed.

    Args:
        drift: From `find_drift`.
        allowed: Options of the run, or parts of them: ``pretrain.optim``.
        where: The run, for the message.

    Raises:
        DriftError: names each changed option in a line.
    """
    may_change = [*(f"pretrain.{name}" for name in MAY_CHANGE), *allowed]
    refused = {
        name: change
        for name, change in ((f"pretrain.{name}", change) for name, change in drift.items())
        if not covered(name, may_change)
    }
    if refused:
        lines = "\n".join(f"  {name}: {change}" for name, change in refused.items())
        raise DriftError(
            f"{where}: cannot go on, since what decides the weights has changed:\n{lines}\n"
            "Give it back, name another run folder, or allow it: "
            f"--allow-drift {next(iter(refused))}"
        )


def refuse_other_statistics(trained_with: Path, now: Path, where: str) -> None:
    """Refuse to go on with other statistics or another vocabulary: inputs would mean other things.

    Args:
        trained_with: Backbone folder of the checkpoint.
        now: Folder that the run names.
        where: The run, for the message.

    Raises:
        ValueError: they differ; names both folders.
        data_sharding.schema.ShardError: there are none.
    """
    same_words = _content(trained_with / TOKENIZER_FILE) == _content(now / TOKENIZER_FILE)
    if not same_words or CorpusStats.load(trained_with) != CorpusStats.load(now):
        what = "statistics" if same_words else "vocabulary"
        raise ValueError(
            f"{where}: cannot go on, since the {what} in {now} is not what was trained with "
            f"({trained_with} has that): give pretrain.data.stats a folder that holds it, or name "
            "another run folder"
        )


def check_options(config: PretrainConfig, allowed: Sequence[str]) -> None:
    """Whether every number is one, and every allowed name an option or a part of them.

    Raises:
        ValueError: one is not; names it, with a suggestion for a name.
    """
    options = {f"pretrain.{name}": value for name, value in _flat(config_to_json(config)).items()}
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
    parts = {".".join(name.split(".")[:depth]) for name in options for depth in range(1, 9)}
    for name in allowed:
        if name not in parts:
            close = difflib.get_close_matches(name, sorted(parts), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"allow_drift: no option is named {name}{hint}")


def covered(name: str, parts: Iterable[str]) -> bool:
    """Whether a name is one of ``parts`` or lies within one."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
