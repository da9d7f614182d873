"""What a stream reads: one shard set, or a blend of several, recorded in a small file.

A blend is a folder with ``blend.json``: the sets, their digests, and the phases of their weights.
It stands wherever a shard set's folder does for streaming, and keeps the blend's own statistics.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from data_sharding.durable import write_durably
from data_sharding.manifest import ShardSet
from data_sharding.retry import patience_with, retrying
from data_sharding.schema import DEFAULT_SPLIT, ShardError, canonical_json
from data_sharding.storage import is_remote, join, read_bytes
from data_sharding.stream.blend import Phase, refuse_odd_phases

BLEND_FILE = "blend.json"
FORMAT = "triptych-blend"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class StreamSource:
    """Sets to stream and their weights over time.

    Attributes:
        sets: One split of each set; their samples are numbered one set after the other.
        phases: At least one; a weight for each set.
        digest: Of the set, or of the sets' digests and the phases.
    """

    sets: tuple[ShardSet, ...]
    phases: tuple[Phase, ...]
    digest: str

    def __post_init__(self) -> None:
        refuse_odd_phases(self.phases, len(self.sets))
        for number, shard_set in enumerate(self.sets):
            if not shard_set.num_samples and any(p.weights[number] for p in self.phases):
                raise ValueError(f"{shard_set.location} holds no samples to stream")

    @classmethod
    def of(cls, shard_set: ShardSet) -> "StreamSource":
        """One set alone."""
        phases = (Phase(from_sample=0, weights=(1.0,)),)
        return cls(sets=(shard_set,), phases=phases, digest=shard_set.digest)

    @property
    def num_samples(self) -> int:
        """Samples of all sets."""
        return sum(shard_set.num_samples for shard_set in self.sets)

    @property
    def first_ids(self) -> list[int]:
        """First sample number of each set."""
        return [0, *accumulate(shard_set.num_samples for shard_set in self.sets)][:-1]


def open_stream(location: Path | str, split: str = DEFAULT_SPLIT) -> StreamSource:
    """Opens a blend, or a shard set as a blend of one.

    Args:
        location: Folder or URL of a blend or a shard set.
        split: Split of every set.

    Raises:
        ShardError: It is neither, a set has changed since it was blended, or lacks the split.
        ValueError: The blend was made for another split.
    """
    location = str(location)
    content = read_blend(location)
    if content is None:
        return StreamSource.of(ShardSet.open(location, split))
    if content["split"] != split:
        raise ValueError(
            f"{location} blends the split {content['split']!r}, not {split!r}; make a blend of "
            f"that split with `triptych blend OUT ... --split {split}`"
        )
    sets = tuple(_open_recorded(location, entry, split) for entry in content["sets"])
    return StreamSource(
        sets=sets,
        phases=_phases(location, content["phases"], len(sets)),
        digest=content["digest"],
    )


def write_blend(out: Path, weights: Mapping[str, float | None], split: str) -> StreamSource:
    """Makes a new blend.

    Args:
        out: Folder to create.
        weights: Location of each set -> relative weight; None for all of them means by size.
        split: Split of every set.

    Raises:
        ValueError: `out` holds anything but this very blend, a set is given twice, or some weights
            are missing.
        ShardError: A location is no shard set, or lacks the split.
    """
    if not weights:
        raise ValueError("a blend needs at least one set: triptych blend OUT SET=WEIGHT ...")
    sets = [ShardSet.open(location, split) for location in weights]
    entries = [_entry(out, shard_set) for shard_set in sets]
    _refuse_twice(entries)
    phase = Phase(from_sample=0, weights=_all_weights(weights, sets))
    content = _content(split, entries, [phase])
    if out.exists() and any(out.iterdir()) and read_blend(str(out)) != content:
        raise ValueError(
            f"{out} is not empty; give --from-sample to change the weights of a blend, or another "
            "folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    return _write(out, content)


def append_phase(
    out: Path, weights: Mapping[str, float | None], from_sample: int, split: str
) -> StreamSource:
    """Changes the weights of a blend from some sample on; what comes before never changes.

    Phases that begin at that sample or later give way; a run that has read them refuses that. A set
    that the blend does not have yet is added behind the others; one that is not given gets no more
    samples.

    Raises:
        ValueError: There is no blend, `from_sample` is not above 0, a set is given twice, or some
            weights are missing.
        ShardError: A set has changed since it was blended, or is none.
    """
    content = read_blend(str(out))
    if content is None:
        raise ValueError(f"{out} is no blend yet; make it first, without --from-sample")
    before = open_stream(out, split)
    sets = [ShardSet.open(location, split) for location in weights]
    added = [_entry(out, shard_set) for shard_set in sets]
    _refuse_twice(added)
    shares = dict(
        zip([entry["location"] for entry in added], _all_weights(weights, sets), strict=True)
    )
    known = {entry["location"] for entry in content["sets"]}
    entries = content["sets"] + [entry for entry in added if entry["location"] not in known]
    phase = Phase(
        from_sample=from_sample,
        weights=tuple(shares.get(entry["location"], 0.0) for entry in entries),
    )
    if from_sample < 1:
        raise ValueError(f"--from-sample must be above 0, got {from_sample}")
    kept = [old for old in before.phases if old.from_sample < from_sample]
    return _write(out, _content(split, entries, [*kept, phase]))


def read_blend(location: str) -> dict[str, Any] | None:
    """The content of a location's ``blend.json``, checked against its digest; None without one.

    Raises:
        ShardError: It cannot be read, or is malformed or altered.
    """
    path = join(location, BLEND_FILE)
    try:
        raw = retrying(lambda: _read_if_there(path), path, patience_with(location))
    except OSError as error:
        raise ShardError(f"{path}: cannot be read ({error})") from error
    if raw is None:
        return None
    try:
        content = json.loads(raw)
        good = content["format"] == FORMAT and content["version"] == VERSION
        good &= _digest(content) == content["digest"] and bool(content["sets"])
        good &= {"split", "phases"} <= content.keys()
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(f"{path}: malformed ({error!r})") from error
    if not good:
        raise ShardError(
            f"{path}: not a blend that this program wrote, or altered by hand; make it again, or "
            "change weights with `triptych blend OUT --from-sample N ...`"
        )
    return content


def _read_if_there(path: str) -> bytes | None:
    try:
        return read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _content(split: str, entries: list[dict[str, Any]], phases: list[Phase]) -> dict[str, Any]:
    """What ``blend.json`` holds."""
    body = {
        "format": FORMAT,
        "version": VERSION,
        "split": split,
        "sets": entries,
        "phases": [
            {"from_sample": phase.from_sample, "weights": list(phase.weights)} for phase in phases
        ],
    }
    return {"digest": _digest(body), **body}


def _write(out: Path, content: dict[str, Any]) -> StreamSource:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_durably(out / BLEND_FILE, (text + "\n").encode("utf-8"))
    return open_stream(out, content["split"])


def _digest(content: Mapping[str, Any]) -> str:
    body = {name: part for name, part in content.items() if name != "digest"}
    return hashlib.sha256(canonical_json(body)).hexdigest()


def _entry(out: Path, shard_set: ShardSet) -> dict[str, Any]:
    """A set as ``blend.json`` lists it; a local one relative to the blend's folder."""
    location = shard_set.location
    if not is_remote(location):
        location = Path(
            os.path.relpath(os.path.abspath(location), os.path.realpath(out))
        ).as_posix()
    return {
        "location": location,
        "digest": shard_set.digest,
        "num_samples": shard_set.num_samples,
    }


def _open_recorded(blend: str, entry: Mapping[str, Any], split: str) -> ShardSet:
    location = str(entry["location"])
    if not is_remote(location):
        location = (
            join(blend, location)
            if is_remote(blend)
            else os.path.normpath(os.path.join(os.path.realpath(blend), location))
        )
    shard_set = ShardSet.open(location, split)
    if shard_set.digest != entry["digest"]:
        raise ShardError(
            f"{location} has changed since {blend} was made (digest {shard_set.digest[:12]}, "
            f"recorded {str(entry['digest'])[:12]}); make a new blend, or bring the set back"
        )
    return shard_set


def _phases(blend: str, entries: list[Mapping[str, Any]], num_sets: int) -> tuple[Phase, ...]:
    """Sets that were added later have no weight in earlier phases."""
    phases = []
    for entry in entries:
        weights = [float(weight) for weight in entry["weights"]]
        if len(weights) > num_sets:
            raise ShardError(f"{blend}/{BLEND_FILE}: {len(weights)} weights for {num_sets} sets")
        padded = tuple(weights + [0.0] * (num_sets - len(weights)))
        phases.append(Phase(from_sample=int(entry["from_sample"]), weights=padded))
    return tuple(phases)


def _all_weights(weights: Mapping[str, float | None], sets: list[ShardSet]) -> tuple[float, ...]:
    """The weights as given, or the numbers of samples where none is given."""
    given = [weight for weight in weights.values() if weight is not None]
    if not given:
        return tuple(float(shard_set.num_samples) for shard_set in sets)
    if len(given) < len(weights):
        lacking = [location for location, weight in weights.items() if weight is None]
        raise ValueError(f"{lacking[0]} has no weight; give every set one (SET=0.4), or none")
    return tuple(float(weight) for weight in given)


def _refuse_twice(entries: list[dict[str, Any]]) -> None:
    locations = [entry["location"] for entry in entries]
    for location in locations:
        if locations.count(location) > 1:
            raise ValueError(f"{location} is given twice; a set has one weight")
