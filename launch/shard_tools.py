"""`triptych index`, `verify`, `inspect` and `export-index`: tools for shards that lie on disk."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_sharding.foreign.index_set import IndexConfig, index_tars
from data_sharding.manifest import MANIFEST_FILE, ShardSet
from data_sharding.schema import ShardError
from data_sharding.storage import exists, join
from data_sharding.tools.export_index import ExportFormat, export_index
from data_sharding.tools.inspection import InspectConfig, inspect_set
from data_sharding.tools.inspection_sheet import write_sheet
from data_sharding.tools.inspection_text import describe
from data_sharding.tools.verify import Depth, verify_set


@dataclass(frozen=True, kw_only=True)
class IndexCommand:
    """Stream foreign WebDataset tars as they are: write an index beside each, and a manifest.

    The tars are read once and never changed. Finished ones are passed over when the command runs
    again. Example: triptych index laion/{00000..00099}.tar --licence cc-by-4.0
    """

    tars: tyro.conf.Positional[tuple[str, ...]]
    """Tars, a folder of tars, or patterns such as `laion-{000..010}.tar`; all in one folder."""

    config: Annotated[IndexConfig, tyro.conf.arg(name="")] = field(default_factory=IndexConfig)


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Check every CRC32 and sha256 of a shard set; name the first broken bytes of each shard.

    Exits with 1 when anything is broken, missing or not listed.
    """

    shards: tyro.conf.Positional[str]
    """Folder or URL of the set."""

    depth: Depth = "full"
    """`full` reads every byte; `quick` reads the indexes and the sizes of the tars."""

    workers: int | None = None
    """Processes at once; if not given, one for every 256 MB, at most one a core."""


@dataclass(frozen=True, kw_only=True)
class InspectCommand:
    """Show what a shard set holds: counts, sizes, durations, languages, labels, rejects."""

    shards: tyro.conf.Positional[str]
    """Folder or URL of the set."""

    html: Path | None = None
    """Also write one self-contained page with charts, pictures, spectrograms and sound."""

    config: Annotated[InspectConfig, tyro.conf.arg(name="")] = field(default_factory=InspectConfig)


@dataclass(frozen=True, kw_only=True)
class ExportIndexCommand:
    """Write the index that another reader of the same tars wants."""

    shards: tyro.conf.Positional[Path]
    """Folder of the set."""

    format: ExportFormat
    """`wids`: webdataset's index of shards. `dali`: one text index a tar, as wds2idx writes it.
    `energon`: Megatron-Energon's `.nv-meta` folder and indexes."""

    out: Path | None = None
    """Folder to write to; each format's usual place if not given."""


def index_command(arguments: list[str]) -> int:
    """`triptych index`."""
    command = tyro.cli(IndexCommand, args=arguments, prog="triptych index")
    print(index_tars(command.tars, command.config).summary())
    return 0


def verify_command(arguments: list[str]) -> int:
    """`triptych verify`; 1 when anything is broken."""
    command = tyro.cli(VerifyCommand, args=arguments, prog="triptych verify")
    try:
        shard_set = ShardSet.open(command.shards)
    except ShardError as error:
        if not exists(join(command.shards, MANIFEST_FILE)):
            raise  # no set at all: a wrong path, not damage
        print(error)
        return 1
    broken = 0
    for damage in verify_set(shard_set, command.depth, command.workers):
        broken += 1
        print(damage)
    if broken:
        print(
            f"{command.shards}: {broken} files are broken, missing or not listed", file=sys.stderr
        )
        return 1
    num_bytes = sum(shard.bytes for shard in shard_set.shards)
    checked = "every byte" if command.depth == "full" else "sizes and indexes; no tar was read"
    print(
        f"{command.shards}: whole ({checked}): {shard_set.num_samples} samples in "
        f"{len(shard_set.shards)} shards, {num_bytes / 1e6:.1f} MB, digest {shard_set.digest[:12]}"
    )
    return 0


def inspect_command(arguments: list[str]) -> int:
    """`triptych inspect`."""
    command = tyro.cli(InspectCommand, args=arguments, prog="triptych inspect")
    inspection = inspect_set(command.shards, command.config)
    print(describe(inspection))
    if command.html is not None:
        print(write_sheet(inspection, command.html))
    return 0


def export_index_command(arguments: list[str]) -> int:
    """`triptych export-index`."""
    command = tyro.cli(ExportIndexCommand, args=arguments, prog="triptych export-index")
    print(export_index(ShardSet.open(command.shards), command.format, command.out))
    return 0
