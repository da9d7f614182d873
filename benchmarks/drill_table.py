"""What the fault drills have in common: scenes, and the table of what was seen in them."""

import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drill_looks import LeftOutError, SurpriseError
from drill_run import Seen
from interleaved import Spread, versions

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.stats import StatsConfig, compute_stats
from eval.importers.sample_topics import CORPUS

HEADING = "| fault | times | expected | seen | steps lost (most) |\n|---|---|---|---|---|"

MOST_WORDS = 300
"""Characters of an error in the table; the traceback has the rest."""


@dataclass(frozen=True)
class Scene:
    """A fault, and what is to follow."""

    fault: str
    expected: str
    act: Callable[[Any], Seen]
    """Given the ground on which the drill takes place."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table."""

    fault: str
    times: int
    expected: str
    seen: str
    as_expected: bool
    steps_lost: int | None
    """Most in one start."""

    minutes: float
    seconds: dict[str, Spread]

    def show(self) -> str:
        """For a table in markdown."""
        lost = "" if self.steps_lost is None else str(self.steps_lost)
        seen = self.seen if self.as_expected else f"**NOT AS EXPECTED**: {self.seen}"
        return f"| {self.fault} | {self.times or ''} | {self.expected} | {seen} | {lost} |"


def play(scene: Scene, ground: object) -> Row:
    """Play a scene; whatever goes wrong in it is its outcome, and the others are still played."""
    began = time.monotonic()
    try:
        seen, as_expected = scene.act(ground), True
    except (SurpriseError, LeftOutError) as error:
        words = f"left out: {error}" if isinstance(error, LeftOutError) else str(error)
        seen, as_expected = Seen(times=0, seen=" ".join(words.split()), steps_lost=[]), False
    except Exception as error:
        traceback.print_exc()
        seen, as_expected = Seen(times=0, seen=repr(error)[:MOST_WORDS], steps_lost=[]), False
    return Row(
        fault=scene.fault,
        times=seen.times,
        expected=scene.expected,
        seen=seen.seen,
        as_expected=as_expected,
        steps_lost=max(seen.steps_lost, default=None),
        minutes=(time.monotonic() - began) / 60,
        seconds={name: Spread.of(values) for name, values in seen.seconds.items() if values},
    )


def write_shards(folder: Path) -> Path:
    """The bundled sample corpus as shards with statistics."""
    if folder.exists():
        return folder
    shard_corpus(CORPUS, folder, ShardingConfig())
    compute_stats(folder, StatsConfig())
    return folder


def play_all(
    scenes: Mapping[str, Scene],
    names: Sequence[str],
    ground: object,
    out: Path | None,
    seed: int = 0,
) -> bool:
    """Play some scenes, print and record their rows; whether all was as expected.

    Args:
        scenes: All that there are, in the table's order.
        names: Which to play.
        ground: Where.
        out: JSON with a row for each scene, whichever start it comes from.
        seed: Of what is random, for the record.
    """
    print(HEADING)
    rows = {}
    for name in names:
        rows[name] = play(scenes[name], ground)
        print(rows[name].show(), flush=True)
        if out:
            record(out, list(scenes), name, rows[name], seed)
    for row in rows.values():
        for name, spread in row.seconds.items():
            print(f"{row.fault}: seconds {name}: {spread.show(1)}")
    return all(row.as_expected for row in rows.values())


def record(path: Path, order: list[str], name: str, row: Row, seed: int) -> None:
    """Put a scene's outcome into the JSON, in the place of its last one."""
    scenes = json.loads(path.read_text())["scenes"] if path.exists() else {}
    found = versions("torch", "deepspeed", "safetensors")
    scenes[name] = {**asdict(row), "seed": seed, "versions": found}
    ordered = {name: scenes[name] for name in order if name in scenes}
    met = all(scene["as_expected"] for scene in ordered.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"scenes": ordered, "met": met}, indent=1) + "\n")
