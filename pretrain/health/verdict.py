"""What the rules found, in words and as the file that travels with a checkpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

HEALTH_FILE = "health.json"
"""In a checkpoint: the verdict when it was written."""

State = Literal["healthy", "warned", "collapsed"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule that holds."""

    rule: str
    severity: Literal["warn", "stop"]
    sentence: str
    """What was seen, what it should look like, and what to do now."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All that was found so far."""

    step: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def state(self) -> State:
        """`collapsed` where any rule asks to stop."""
        if any(finding.severity == "stop" for finding in self.findings):
            return "collapsed"
        return "warned" if self.findings else "healthy"

    @property
    def fit_to_publish(self) -> bool:
        """Whether these weights may be given out without being asked twice."""
        return self.state != "collapsed"

    def sentences(self) -> list[str]:
        """The findings in words, the gravest first."""
        ordered = sorted(self.findings, key=lambda finding: finding.severity != "stop")
        return [finding.sentence for finding in ordered]

    def to_json(self) -> dict[str, Any]:
        """As `verdict_from_json` reads it."""
        return {
            "state": self.state,
            "step": self.step,
            "findings": [asdict(finding) for finding in self.findings],
        }


def verdict_from_json(content: Mapping[str, Any], where: str) -> Verdict:
    """What `Verdict.to_json` wrote.

    Raises:
        ValueError: it is something else; ``where`` is named.
    """
    try:
        findings = tuple(Finding(**finding) for finding in content["findings"])
        return Verdict(step=int(content["step"]), findings=findings)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: no verdict on health: {error!r}") from error


def save_verdict(verdict: Verdict, folder: Path) -> None:
    """Write the verdict into a checkpoint folder."""
    (folder / HEALTH_FILE).write_text(json.dumps(verdict.to_json(), indent=2) + "\n")


def load_verdict(folder: Path) -> Verdict | None:
    """The verdict of a checkpoint folder; None where it was written without one.

    Raises:
        ValueError: the file cannot be read.
    """
    path = folder / HEALTH_FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: no verdict on health: {error}") from error
    return verdict_from_json(content, str(path))


def last_healthy(checkpoints: Sequence[Path]) -> Path | None:
    """The newest of some checkpoint folders whose verdict is not `collapsed`."""
    for folder in sorted(checkpoints, reverse=True):
        verdict = load_verdict(folder)
        if verdict is not None and verdict.fit_to_publish:
            return folder
    return None
