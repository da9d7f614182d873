import json
import sqlite3
import struct
import tarfile
from pathlib import Path

import pytest
from webdataset import TarWriter

from data_sharding.foreign.index_set import IndexConfig, index_tars
from data_sharding.manifest import ShardSet
from data_sharding.schema import ShardError
from data_sharding.tools.export_index import export_index
from data_sharding.tools.verify import verify_set
from tiny_shards import members_of, write_set


@pytest.fixture
def own(tmp_path):
    return write_set(tmp_path / "set", sizes=(3, 2))


@pytest.fixture
def foreign(tmp_path):
    """Two splits, pax headers, members that Triptych passes over."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for split, first in (("train", 0), ("validation", 3)):
        with TarWriter(str(folder / f"{split}.tar")) as writer:
            for number in range(first, first + 3):
                writer.write({"__key__": f"a/{number}", "txt": f"t{number}", "cls": 1})
        config = IndexConfig(split=split, workers=1)
        index_tars([str(folder / f"{split}.tar")], config)
    return ShardSet.open(folder)


def listed_by_tarfile(path):
    """What DALI's tools/wds2idx.py lists: extension, offset, size, name of every regular file.

    https://github.com/NVIDIA/DALI/blob/main/tools/wds2idx.py
    """
    samples = []
    with tarfile.open(path) as tar:
        for member in tar:
            dot = member.name.find(".", member.name.rfind("/") + 1)
            key, suffix = member.name[:dot], member.name[dot + 1 :]
            if not samples or samples[-1][0] != key:
                samples.append((key, []))
            samples[-1][1].append(f"{suffix} {member.offset_data} {member.size} {member.name}")
    return samples


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_dalis_index_lists_every_file_as_wds2idx_does(kind, request):
    shards = request.getfixturevalue(kind)
    export_index(shards, "dali")
    for shard in shards.shards:
        samples = listed_by_tarfile(shards.folder / shard.file)
        lines = [f"v1.2 {len(samples)}", *(" ".join(words) for _, words in samples)]
        written = shards.folder / "dali" / shard.index_file
        assert written.read_text("ascii") == "\n".join(lines) + "\n"


def test_dalis_index_finds_the_bytes(own):
    export_index(own, "dali")
    raw = (own.folder / "shard-000001.tar").read_bytes()
    words = (own.folder / "dali" / "shard-000001.idx").read_text().splitlines()[2].split()
    found = {
        words[at]: raw[int(words[at + 1]) : int(words[at + 1]) + int(words[at + 2])]
        for at in range(0, len(words), 4)
    }
    assert found == members_of(4)


def test_dalis_index_never_takes_the_place_of_ours(own):
    with pytest.raises(ValueError, match="another folder"):
        export_index(own, "dali", own.folder)
    assert list(verify_set(own, workers=1)) == []


def test_wids_gets_one_index_a_split_with_paths_that_lead_to_the_tars(foreign, tmp_path):
    # https://github.com/webdataset/wids, wids_index.py and wids_specs.py
    export_index(foreign, "wids", tmp_path / "elsewhere")
    for split, shard in zip(("train", "validation"), foreign.shards, strict=True):
        path = tmp_path / "elsewhere" / f"wids-{split}.json"
        index = json.loads(path.read_text())
        assert (index["wids_version"], index["__kind__"]) == (1, "wids-shard-index-v1")
        (entry,) = index["shardlist"]
        assert (path.parent / entry["url"]).resolve() == foreign.folder / shard.file
        assert (entry["nsamples"], entry["filesize"]) == (3, shard.bytes)


def test_energons_files_say_where_every_sample_and_part_lies(foreign):
    # megatron-energon 7.4.1, flavors/webdataset/prepare.py and indexing.py:
    # https://github.com/NVIDIA/Megatron-Energon
    told = export_index(foreign, "energon")
    assert "splits train, val" in told
    meta = foreign.folder / ".nv-meta"
    info = json.loads((meta / ".info.json").read_text())
    assert info["shard_counts"] == {"train.tar": 3, "validation.tar": 3}
    assert '"val":\n  - "validation.tar"' in (meta / "split.yaml").read_text()
    assert "CrudeWebdataset" in (meta / "dataset.yaml").read_text()
    database = sqlite3.connect(meta / "index.sqlite")
    rows = database.execute("SELECT * FROM samples ORDER BY tar_file_id, sample_index").fetchall()
    parts = database.execute("SELECT * FROM sample_parts").fetchall()
    database.close()
    bounds = [
        offset
        for shard in foreign.shards
        for offset in struct.unpack(
            "<4Q", (foreign.folder / shard.file).with_suffix(".tar.idx").read_bytes()
        )
    ]
    assert [row[1] for row in rows] == [f"a/{number}" for number in range(6)]
    assert [row[3] for row in rows] == bounds[:3] + bounds[4:7]
    assert [row[3] + row[4] for row in rows] == bounds[1:4] + bounds[5:]
    raws = [(foreign.folder / shard.file).read_bytes() for shard in foreign.shards]
    texts = {
        raws[tar][start : start + size] for tar, _, part, start, size in parts if part == "txt"
    }
    assert texts == {f"t{number}".encode() for number in range(6)}


def test_energon_in_another_folder_gets_links_and_leaves_the_set_alone(own, tmp_path):
    before = sorted(own.folder.iterdir())
    export_index(own, "energon", tmp_path / "energon")
    assert sorted(own.folder.iterdir()) == before
    link = tmp_path / "energon" / "shard-000000.tar"
    assert link.is_symlink()
    assert link.samefile(own.folder / "shard-000000.tar")
    export_index(own, "energon", tmp_path / "energon")  # again is no error


def test_a_sample_class_that_the_user_chose_stays(own):
    export_index(own, "energon")
    chosen = own.folder / ".nv-meta" / "dataset.yaml"
    chosen.write_text("mine")
    export_index(own, "energon")
    assert chosen.read_text() == "mine"


def test_keys_that_energon_refuses_are_told_before_it_does(tmp_path):
    for name in ("a.tar", "b.tar"):
        with TarWriter(str(tmp_path / name)) as writer:
            writer.write({"__key__": "same", "txt": "t"})
    shards = index_tars([str(tmp_path)], IndexConfig(workers=1)).shard_set
    with pytest.raises(ShardError, match=r"b\.tar: one of its keys"):
        export_index(shards, "energon")
    assert not (Path(tmp_path) / ".nv-meta" / "index.sqlite").exists()
