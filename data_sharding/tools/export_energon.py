"""Megatron-Energon's metadata for a set's tars: what its ``energon prepare`` would write.

``.nv-meta`` holds ``.info.json`` (samples a shard), ``split.yaml``, ``dataset.yaml`` (the sample
loader), ``index.sqlite`` (where every sample and part lies) and ``index.uuid``. Beside each tar
lies ``NAME.tar.idx``: the byte where each sample begins and where the last one ends, as u64
little-endian.
"""

import json
import os
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from data_sharding.durable import publish, sync_folder, write_durably
from data_sharding.foreign.listing import ListedSample, list_samples
from data_sharding.manifest import ShardSet
from data_sharding.progress import track
from data_sharding.schema import ShardError

ENERGON_VERSION = "7.4.1"
"""The version whose files these are; written where `energon prepare` writes its own."""

SPLIT_NAMES = {"validation": "val", "valid": "val", "dev": "val"}
"""Energon asks for its splits as train, val and test."""

SCHEMA = """
CREATE TABLE samples (
    tar_file_id INTEGER NOT NULL,
    sample_key TEXT NOT NULL UNIQUE,
    sample_index INTEGER NOT NULL,
    byte_offset INTEGER,
    byte_size INTEGER
);
CREATE TABLE sample_parts (
    tar_file_id INTEGER,
    sample_index INTEGER,
    part_name TEXT,
    content_byte_offset INTEGER,
    content_byte_size INTEGER
);
"""
LOOKUPS = """
CREATE INDEX idx_samples_by_tar_and_idx ON samples(tar_file_id, sample_index);
CREATE INDEX idx_sample_parts_seq
    ON sample_parts(tar_file_id, sample_index, content_byte_offset);
CREATE INDEX idx_sample_parts_full ON sample_parts(
    tar_file_id, sample_index, part_name, content_byte_offset, content_byte_size
);
"""
DATASET_YAML = """\
# Crude samples: a cooker of your task encoder gets the raw parts (txt, jpg, flac, json, ...).
# https://nvidia.github.io/Megatron-Energon/advanced/crude_datasets.html
__module__: megatron.energon
__class__: CrudeWebdataset
"""


def write_energon(shard_set: ShardSet, out: Path) -> str:
    """Writes Energon's files.

    Args:
        shard_set: A local set.
        out: The Energon dataset: the set's own folder, or another, which gets links to the tars.

    Returns:
        What was written, and how to read it.

    Raises:
        ShardError: A tar is broken, or two samples of the set have one key.
        ValueError: `out` holds other tars under the same names.
    """
    meta = out / ".nv-meta"
    meta.mkdir(parents=True, exist_ok=True)
    _link_tars(shard_set, out)
    temporary = meta / "index.sqlite.tmp"
    temporary.unlink(missing_ok=True)
    counts: dict[str, int] = {}
    listed = track(shard_set.shards, "walking headers", len(shard_set.shards))
    with closing(sqlite3.connect(temporary)) as database:
        database.executescript(SCHEMA)
        for number, shard in enumerate(listed):
            path = out / shard.file
            with path.open("rb") as file:
                samples = list(list_samples(file, str(path)))
            _insert(database, number, samples, str(path))
            _write_offsets(path, samples)
            counts[shard.file] = len(samples)
        database.executescript(LOOKUPS)
        database.commit()
    publish(temporary, meta / "index.sqlite")
    _write_meta(shard_set, meta, counts)
    return (
        f"{out}: Energon {ENERGON_VERSION} dataset of {sum(counts.values())} samples, splits "
        f"{', '.join(_splits(shard_set))}; read it with a task encoder that cooks crude samples, "
        f"or name another sample class in {meta / 'dataset.yaml'}; `energon prepare` is not needed"
    )


def _link_tars(shard_set: ShardSet, out: Path) -> None:
    folder = shard_set.folder.resolve()
    if out.resolve() == folder:
        return
    for shard in shard_set.shards:
        link, target = out / shard.file, folder / shard.file
        if not link.exists():
            link.symlink_to(os.path.relpath(target, out.resolve()))
        elif not link.samefile(target):
            raise ValueError(f"{link} is another file than {target}; choose an empty folder")
    sync_folder(out)


def _insert(
    database: sqlite3.Connection, number: int, samples: Sequence[ListedSample], name: str
) -> None:
    ends = [sample.start for sample in samples[1:]] + [sample.stop for sample in samples[-1:]]
    rows = (
        (number, sample.key, row, sample.start, end - sample.start)
        for row, (sample, end) in enumerate(zip(samples, ends, strict=True))
    )
    parts = (
        (number, row, member.suffix, member.start, member.length)
        for row, sample in enumerate(samples)
        for member in sample.members
    )
    try:
        database.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", rows)
    except sqlite3.IntegrityError as error:
        raise ShardError(
            f"{name}: one of its keys comes in another sample too, and Energon wants every key of "
            "a set once; shard the corpus with `triptych shard`, which makes keys anew"
        ) from error
    database.executemany("INSERT INTO sample_parts VALUES (?, ?, ?, ?, ?)", parts)


def _write_offsets(tar: Path, samples: Sequence[ListedSample]) -> None:
    bounds = [sample.start for sample in samples] + [sample.stop for sample in samples[-1:]]
    write_durably(tar.with_suffix(".tar.idx"), np.array(bounds, dtype="<u8").tobytes())


def _write_meta(shard_set: ShardSet, meta: Path, counts: dict[str, int]) -> None:
    info = {"energon_version": ENERGON_VERSION, "shard_counts": counts}
    write_durably(meta / ".info.json", json.dumps(info, indent=2).encode())
    identity = uuid.uuid5(uuid.NAMESPACE_URL, shard_set.digest)
    write_durably(meta / "index.uuid", str(identity).encode())
    lines = ["exclude: []", "split_parts:"]
    for split, files in _splits(shard_set).items():
        lines += [f"  {json.dumps(split)}:", *(f"  - {json.dumps(file)}" for file in files)]
    write_durably(meta / "split.yaml", ("\n".join(lines) + "\n").encode())
    if not (meta / "dataset.yaml").exists():  # the user's own sample class stays
        write_durably(meta / "dataset.yaml", DATASET_YAML.encode())


def _splits(shard_set: ShardSet) -> dict[str, list[str]]:
    """Energon's name of each split -> its tars."""
    found: dict[str, list[str]] = {}
    for shard in shard_set.shards:
        found.setdefault(SPLIT_NAMES.get(shard.split, shard.split), []).append(shard.file)
    return found
