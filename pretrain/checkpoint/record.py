"""What a checkpoint is: a folder ``step-00000200``, and the COMPLETE file that vouches for it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pretrain.checkpoint.files import FileSum

FORMAT_VERSION = 2
COMPLETE = "COMPLETE"
LATEST = "latest"
"""Beside the checkpoints: the newest one's name, for people; no reader trusts it."""

LIBRARIES = ("triptych", "torch", "deepspeed", "safetensors")
"""Whose versions a checkpoint tells."""


class CheckpointError(Exception):
    """A checkpoint could not be read, or could not be written."""


class NotWholeError(CheckpointError):
    """A folder was read and is not what was written: something is missing, or differs."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: all the state of schedules and of the sample order."""

    step: int = 0
    samples_consumed: int = 0

    def advanced(self, global_samples: int) -> "Progress":
        """One optimizer step further."""
        return Progress(self.step + 1, self.samples_consumed + global_samples)

    def passed_over(self, global_samples: int) -> "Progress":
        """A batch further that changed nothing: the next one takes the same step's place.

        So schedules follow the steps that were applied, and the order of samples goes on.
        """
        return Progress(self.step, self.samples_consumed + global_samples)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    folder: Path
    progress: Progress
    world_size: int
    digest: str
    """sha256 of COMPLETE, and so of all that is in the folder."""

    versions: Mapping[str, str] = field(hash=False)
    """Of the libraries that wrote it, by name."""

    @property
    def step(self) -> int:
        """Optimizer steps behind these weights."""
        return self.progress.step

    @property
    def samples_consumed(self) -> int:
        """Samples behind these weights."""
        return self.progress.samples_consumed

    @property
    def backbone(self) -> Path:
        """The folder that `Backbone.load` reads: the target network's backbone."""
        return self.folder / "backbone"

    @property
    def run(self) -> Path:
        """The run folder that it belongs to."""
        return self.folder.parent.parent

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the run."""
        return json.loads((self.folder / "config.json").read_text())


@dataclass(frozen=True, kw_only=True)
class Marker:
    """What COMPLETE says. The configuration's hash is that of ``config.json`` among the files."""

    progress: Progress
    world_size: int
    versions: Mapping[str, str]
    files: Mapping[str, FileSum]

    def to_text(self) -> str:
        """As `from_text` reads it, with a sum over all of it."""
        content = {
            "format_version": FORMAT_VERSION,
            **asdict(self.progress),
            "world_size": self.world_size,
            "versions": dict(self.versions),
            "files": {name: found.to_json() for name, found in sorted(self.files.items())},
        }
        return json.dumps(content | {"sha256": _sum_of(content)}, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str, where: Path) -> "Marker":
        """What `to_text` wrote.

        Raises:
            NotWholeError: it is something else, or changed since, be it by one bit; ``where`` is
                named.
            CheckpointError: it is of another format.
        """
        try:
            content = json.loads(text)
            if content["format_version"] != FORMAT_VERSION:
                _refuse_other_format(content, where)
            marker = cls(
                progress=Progress(**{f.name: int(content[f.name]) for f in fields(Progress)}),
                world_size=int(content["world_size"]),
                versions={str(name): str(value) for name, value in content["versions"].items()},
                files={name: FileSum.from_json(found) for name, found in content["files"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotWholeError(f"{where}: unreadable: {error!r}") from error
        if marker.to_text() != text:
            raise NotWholeError(f"{where}: differs from what was written (sha256)")
        return marker


def _sum_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _refuse_other_format(content: Mapping[str, Any], where: Path) -> None:
    rest = {name: value for name, value in content.items() if name != "sha256"}
    if content.get("sha256", _sum_of(rest)) != _sum_of(rest):  # format 1 had no sum
        raise NotWholeError(f"{where}: differs from what was written (sha256)")
    raise CheckpointError(
        f"{where}: format {content['format_version']!r}, and this version of triptych reads format "
        f"{FORMAT_VERSION}; go on with the version that wrote it, or move {where.parent.name} away"
    )


def library_versions() -> dict[str, str]:
    """Of what writes a checkpoint here."""
    return {name: version(name) for name in LIBRARIES}


def checkpoints_folder(run: Path) -> Path:
    """Where the checkpoints of a run lie."""
    return run / "checkpoints"


def step_folder(run: Path, step: int) -> Path:
    """Name of the checkpoint of a step."""
    return checkpoints_folder(run) / f"step-{step:08d}"


def step_folders(run: Path) -> list[Path]:
    """All that have a checkpoint's name, whole or not; the oldest first.

    Raises:
        OSError: they cannot be listed; `Path.glob` would find none.
    """
    folder = checkpoints_folder(run)
    found = folder.iterdir() if folder.exists() else ()
    return sorted(path for path in found if path.match("step-????????"))
