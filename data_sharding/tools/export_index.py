"""`triptych export-index`: the indexes that other readers of the same tars want.

Checked against the published formats: webdataset's ``wids-index`` (wids 0.1.11), NVIDIA DALI's
``tools/wds2idx.py`` (index version v1.2), Megatron-Energon 7.4.1's ``energon prepare``.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from data_sharding.durable import write_durably
from data_sharding.foreign.listing import ListedSample, list_samples
from data_sharding.manifest import ShardEntry, ShardSet
from data_sharding.progress import track
from data_sharding.tools.export_energon import write_energon

ExportFormat = Literal["wids", "dali", "energon"]

DALI_VERSION = "v1.2"
DALI_FOLDER = "dali"


def export_index(shard_set: ShardSet, form: ExportFormat, out: Path | None = None) -> str:
    """Writes another reader's index of a local set.

    Args:
        shard_set: All splits of the set.
        form: Whose index.
        out: Folder to write to; None is the set's own folder, and ``dali`` below it for DALI,
            whose index files are called as ours are.

    Returns:
        What was written, and how to read it.

    Raises:
        ShardError: The set is remote, or a tar is broken.
        ValueError: `out` cannot hold this index.
    """
    folder = shard_set.folder
    if form == "energon":
        return write_energon(shard_set, out or folder)
    target = out or (folder / DALI_FOLDER if form == "dali" else folder)
    if form == "dali" and target.resolve() == folder.resolve():
        raise ValueError(f"{target} holds Triptych's own .idx files; give DALI another folder")
    target.mkdir(parents=True, exist_ok=True)
    return _write_dali(shard_set, target) if form == "dali" else _write_wids(shard_set, target)


def _write_wids(shard_set: ShardSet, out: Path) -> str:
    """One JSON a split, because wids knows no splits."""
    counts = {shard.file: len(samples) for shard, samples in _listed(shard_set)}
    lines = []
    for split in shard_set.splits:
        shards = [shard for shard in shard_set.shards if shard.split == split]
        content = {
            "__kind__": "wids-shard-index-v1",
            "wids_version": 1,
            "name": split,
            "shardlist": [
                _wids_shard(shard_set, shard, counts[shard.file], out) for shard in shards
            ],
        }
        path = out / f"wids-{_file_word(split)}.json"
        write_durably(path, (json.dumps(content, indent=2) + "\n").encode())
        lines.append(f"{path}: wids.ShardListDataset({str(path)!r})")
    return "\n".join(lines)


def _wids_shard(
    shard_set: ShardSet, shard: ShardEntry, num_samples: int, out: Path
) -> dict[str, object]:
    url = os.path.relpath((shard_set.folder / shard.file).resolve(), out.resolve())
    return {"url": url, "nsamples": num_samples, "filesize": shard.bytes}


def _file_word(split: str) -> str:
    """A split's name as part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in split)


def _write_dali(shard_set: ShardSet, out: Path) -> str:
    for shard, samples in _listed(shard_set):
        lines = [f"{DALI_VERSION} {len(samples)}"]
        for sample in samples:
            words = [
                f"{member.suffix} {member.start} {member.length} {member.name}"
                for member in sample.members
            ]
            lines.append(" ".join(words))
        write_durably(
            out / shard.index_file, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
        )
    return (
        f"{out}: {len(shard_set.shards)} indexes; give them to nvidia.dali.fn.readers.webdataset "
        "as index_paths, in the order of paths"
    )


def _listed(shard_set: ShardSet) -> Iterator[tuple[ShardEntry, list[ListedSample]]]:
    for shard in track(shard_set.shards, "walking headers", len(shard_set.shards)):
        path = shard_set.folder / shard.file
        with path.open("rb") as file:
            yield shard, list(list_samples(file, str(path)))
