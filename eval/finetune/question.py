"""Which report answers a question, and where one lies that is not finished."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.finetune.report import FineTuneReport, read_report

PARTIAL_SUFFIX = ".partial"
"""Follows the whole name of a report, so that nothing takes a partial one for a report."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """All that must be equal for a report to answer it."""

    task: Mapping[str, Any]
    """The task's card."""
    checkpoint: Mapping[str, Any]
    """Name and digest of the backbone."""
    shards: str
    """Digest of the shard set."""
    protocol: Mapping[str, Any]
    """How it is fine-tuned, split and selected."""

    def known(self, path: Path) -> FineTuneReport | None:
        """The report at ``path``, if it answers this; None where there is none, or another's.

        Raises:
            ValueError: What lies there is no fine-tuning report, and so is not overwritten.
        """
        if path.is_dir():
            raise ValueError(f"{path} is a folder, not a file for a fine-tuning report")
        if not path.exists():
            return None
        try:
            report = read_report(path)
        except ValueError as error:
            raise ValueError(
                f"{error}; it is not overwritten: remove it, or say with --out where else the "
                "report goes"
            ) from None
        same = (
            report.task == self.task
            and report.checkpoint == self.checkpoint
            and report.shards["digest"] == self.shards
            and report.protocol == self.protocol
        )
        return report if same else None


def partial_file(out: Path) -> Path:
    """Where the representations that have finished are kept until the report is whole."""
    return out.with_name(out.name + PARTIAL_SUFFIX)


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(record))
