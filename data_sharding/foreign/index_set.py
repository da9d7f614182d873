"""`triptych index`: many foreign tars in one folder become a shard set where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from data_sharding.foreign.index_tar import BrokenTar, TarReport, counted, index_tar
from data_sharding.foreign.names import expand_braces
from data_sharding.manifest import (
    MANIFEST_FILE,
    Generation,
    ShardEntry,
    ShardSet,
    sum_counts,
    write_manifest,
)
from data_sharding.parallel import fitting_workers, in_processes
from data_sharding.schema import DEFAULT_SPLIT, ShardError
from data_sharding.storage import is_remote

MADE_BY = "index"
MAX_PROBLEMS_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """How foreign tars become a shard set."""

    split: str = DEFAULT_SPLIT
    """Split that these tars belong to. Run the command once a split: each run adds its tars to
    the folder's manifest."""

    licence: str | None = None
    """Licence of the corpus, recorded in manifest.json."""

    workers: int | None = None
    """Processes at once; if not given, one for every 256 MB, at most one a core."""

    broken: BrokenTar = "refuse"
    """A tar that is cut off or holds garbage: `refuse` it and write no manifest, or `keep` the
    whole samples before the break."""

    force: bool = False
    """Read tars again whose index is there, not older, and of the same byte ranges."""

    def __post_init__(self) -> None:
        if not self.split:
            raise ValueError("split must not be empty")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What `index_tars` made.

    Attributes:
        shard_set: The set, opened.
        tars: One report a tar.
    """

    shard_set: ShardSet
    tars: Sequence[TarReport]

    def summary(self) -> str:
        """A few lines for the terminal."""
        entries = [tar.entry for tar in self.tars if tar.entry]
        held = sum_counts([entry.present for entry in entries])
        lines = [
            f"{sum(entry.samples for entry in entries)} samples "
            f"({', '.join(f'{count} with {name}' for name, count in held.items())}) in "
            f"{len(entries)} tars, {sum(entry.bytes for entry in entries) / 1e6:.1f} MB; "
            f"{sum(tar.fresh for tar in self.tars)} read, the others were indexed already",
            f"samples left out: {counted(sum_counts([tar.rejects for tar in self.tars]))}",
            f"members passed over: {counted(sum_counts([tar.ignored for tar in self.tars]))}",
            *(f"broken: {tar.problem}" for tar in self.tars if tar.problem),
            f"digest {self.shard_set.digest[:12]}: {self.shard_set.location}",
        ]
        return "\n".join(lines)


def index_tars(words: Sequence[str], config: IndexConfig) -> IndexReport:
    """Indexes foreign tars and lists them in the manifest of their folder.

    Tars that an earlier run listed stay listed, under their own split and licence.

    Args:
        words: Tars, a folder of tars, or patterns such as ``laion-{000..010}.tar``; all in one
            folder.
        config: Split, licence, workers.

    Raises:
        ValueError: No tar, tars of several folders, or the folder holds a sharded corpus.
        ShardError: A tar is broken and `config.broken` is ``refuse``; the others are indexed, so
            that the next run passes over them.
    """
    tars = local_tars(words)
    if not tars:
        raise ValueError("give tars, a folder of tars, or a pattern such as x-{000..010}.tar")
    folders = {tar.parent for tar in tars}
    if len(folders) != 1:
        raise ValueError(
            f"the tars lie in {len(folders)} folders, and a shard set is one folder; index each "
            f"folder by itself: {', '.join(sorted(map(str, folders))[:3])}"
        )
    folder = folders.pop()
    earlier = _earlier(folder)
    task = partial(index_tar, broken=config.broken, force=config.force)
    num_bytes = sum(tar.stat().st_size for tar in tars)
    workers = fitting_workers(num_bytes) if config.workers is None else config.workers
    reports = list(in_processes(task, tars, workers, "indexing"))
    refused = [report.problem for report in reports if report.entry is None]
    if refused:
        raise ShardError(_refusal([str(problem) for problem in refused], len(tars), folder))
    _list_tars(folder, earlier, reports, config)
    return IndexReport(shard_set=ShardSet.open(folder), tars=reports)


def _refusal(problems: Sequence[str], num_tars: int, folder: Path) -> str:
    more = len(problems) - MAX_PROBLEMS_SHOWN
    shown = "; ".join(problems[:MAX_PROBLEMS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return (
        f"{len(problems)} of {num_tars} tars are refused, {folder / MANIFEST_FILE} is not written: "
        f"{shown}. Repair or move them, or keep the whole samples of a broken tar with "
        "--broken keep"
    )


def _earlier(folder: Path) -> ShardSet | None:
    """The set that earlier runs of this command made in the folder.

    Raises:
        ValueError: The folder's manifest is that of a sharded corpus.
    """
    if not (folder / MANIFEST_FILE).exists():
        return None
    earlier = ShardSet.open(folder)
    if any(part.config.get("made_by") != MADE_BY for part in earlier.generations):
        raise ValueError(f"{folder} is a set that `triptych shard` made; it has its indexes")
    return earlier


def _list_tars(
    folder: Path, earlier: ShardSet | None, reports: Sequence[TarReport], config: IndexConfig
) -> None:
    entries = [replace(report.entry, split=config.split) for report in reports if report.entry]
    new = {entry.file for entry in entries}
    shards, generations = _without(earlier, new) if earlier else ([], [])
    generation = Generation(
        num_shards=len(entries),
        sources=tuple({"file": entry.file, "sha256": entry.sha256} for entry in entries),
        licence=config.licence,
        rejects=dict(sorted(sum_counts([report.rejects for report in reports]).items())),
        config={"made_by": MADE_BY, "split": config.split, "broken": config.broken},
    )
    write_manifest(folder, [*shards, *entries], [*generations, generation])


def _without(earlier: ShardSet, files: set[str]) -> tuple[list[ShardEntry], list[Generation]]:
    """An earlier set's shards and generations without some tars, which are listed anew."""
    shards: list[ShardEntry] = []
    generations: list[Generation] = []
    begin = 0
    for part in earlier.generations:
        own = earlier.shards[begin : begin + part.num_shards]
        begin += part.num_shards
        kept = [shard for shard in own if shard.file not in files]
        if kept:
            sources = tuple(entry for entry in part.sources if entry["file"] not in files)
            shards += kept
            generations.append(replace(part, num_shards=len(kept), sources=sources))
    return shards, generations


def local_tars(words: Sequence[str]) -> list[Path]:
    """The tars that a user means by tars, folders of tars and brace patterns, each once, sorted.

    Raises:
        ValueError: A word is remote, a command, or no tar is there.
    """
    found: dict[Path, None] = {}
    for word in words:
        if is_remote(word):
            raise ValueError(
                f"{word!r} is remote, and an index lies beside its tar; copy the tars here, or "
                "give the pattern to `triptych shard`"
            )
        for name in expand_braces(word):
            found.update(dict.fromkeys(_tars_at(Path(name))))
    return sorted(found)


def _tars_at(path: Path) -> list[Path]:
    if path.is_dir():
        tars = sorted(path.glob("*.tar"))
        if not tars:
            raise ValueError(f"{path} holds no .tar")
        return tars
    if path.suffix != ".tar":
        raise ValueError(f"{path} is no .tar; compressed tars must be unpacked first")
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    return [path]
