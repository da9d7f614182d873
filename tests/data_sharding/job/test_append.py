import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from tiny_corpus import write_corpus, write_rows

HALVES = ShardingConfig(
    samples_per_shard=2, rows_per_task=3, splits={"train": 0.5, "validation": 0.5}
)

# As in test_job.py, but the deadly job appends to a copy of a finished set.
KILL_APPEND_EVERYWHERE = """
import os, shutil, signal, sys
from pathlib import Path
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.job.engines import LocalEngine
from data_sharding.manifest import ShardSet

first, second, work = (Path(word) for word in sys.argv[1:])
splits = {"train": 0.5, "validation": 0.5}
config = ShardingConfig(samples_per_shard=2, rows_per_task=3, splits=splits)
base = work / "base"
engine = LocalEngine(workers=1)
old = shard_corpus(first, base, config, engine).digest

def child(out, calls_before_death=0):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    left = [calls_before_death]
    def deadly(act):
        def wrapped(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **options)
        return wrapped
    for name in ("fsync", "replace", "unlink", "rmdir"):
        setattr(os, name, deadly(getattr(os, name)))
    try:
        shard_corpus(second, out, config, engine, append=True)
    except ValueError as error:
        os._exit(3 if "no row is left" in str(error) else 4)
    except BaseException:
        os._exit(4)
    os._exit(0)

for calls in range(1, 1000, 3):
    out = work / str(calls)
    shutil.copytree(base, out)
    killed = os.WIFSIGNALED(child(out, calls))
    now = ShardSet.open(out).digest
    if killed:
        status = os.waitstatus_to_exitcode(child(out))
        assert status == 0 or (status == 3 and now != old), (calls, status)
    print(now == old, ShardSet.open(out).digest)
    shutil.rmtree(out)
    if not killed:
        break
"""


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def write_words(folder: Path, words: list[str]) -> Path:
    folder.mkdir()
    return write_rows(folder, [{"id": f"w{n}", "text": word} for n, word in enumerate(words)])


def split_of(out: Path, sample: str) -> str | None:
    shard_set = ShardSet.open(out)
    reader = ShardReader(shard_set)
    for sample_id in range(shard_set.num_samples):
        members = reader.read(sample_id).members
        if json.loads(bytes(members["json"]))["id"] == sample:
            entry, _ = reader.locate(sample_id)
            return entry.split
    return None


def rejects_of(path: Path) -> dict[str, tuple[str, str]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["id"]: (line["reason"], line["detail"]) for line in lines}


def test_appending_changes_nothing_but_the_manifest(tmp_path):
    write_corpus(tmp_path / "first", 5)
    write_words(tmp_path / "second", ["one", "two", "three"])
    first = shard_corpus(tmp_path / "first", tmp_path / "out", HALVES)
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    second = shard_corpus(tmp_path / "second", tmp_path / "out", HALVES, append=True)
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"manifest.json"}
    opened = ShardSet.open(tmp_path / "out")
    assert [part.num_shards for part in opened.generations] == [
        first.num_shards, second.num_shards - first.num_shards
    ]  # fmt: skip
    assert [shard.file for shard in opened.shards] == [
        f"shard-{number:06d}.tar" for number in range(second.num_shards)
    ]
    assert opened.num_samples == second.num_samples == 8
    assert len({ShardReader(opened).read(number).key for number in range(8)}) == 8


def test_a_row_that_an_earlier_generation_has_is_left_out(tmp_path):
    write_corpus(tmp_path / "first", 4)
    shard_corpus(tmp_path / "first", tmp_path / "out", HALVES)
    rows = rows_of(tmp_path / "first")
    rows[2] = {**rows[2], "id": "again"}
    write_rows(tmp_path / "first", [rows[2], {"id": "new", "text": "something else"}])
    report = shard_corpus(tmp_path / "first", tmp_path / "out", HALVES, append=True)
    assert report.num_samples == 5
    assert rejects_of(tmp_path / "out" / "rejects-001.jsonl") == {
        "again": ("duplicate", "it repeats row 3 of generation 0")
    }


def test_appending_the_same_corpus_again_is_refused_and_changes_nothing(tmp_path):
    write_corpus(tmp_path / "corpus", 4)
    digest = shard_corpus(tmp_path / "corpus", tmp_path / "out", HALVES).digest
    with pytest.raises(ValueError, match="all of them are in the set already"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", HALVES, append=True)
    assert ShardSet.open(tmp_path / "out").digest == digest
    assert not (tmp_path / "out" / "unfinished").exists()


def test_what_is_like_an_earlier_sample_comes_to_its_split(tmp_path):
    write_corpus(tmp_path / "first", 12)
    shard_corpus(tmp_path / "first", tmp_path / "out", HALVES)
    rows = []
    for number in range(12):
        (medium,) = [
            path for path in (tmp_path / "first").glob(f"{number}.*")
            if path.suffix in (".jpg", ".png", ".webp")
        ]  # fmt: skip
        Image.open(medium).save(tmp_path / "first" / f"copy-{number}.png")
        rows.append({"id": f"copy-{number}", "image": f"copy-{number}.png"})
    write_rows(tmp_path / "first", rows)
    shard_corpus(tmp_path / "first", tmp_path / "out", HALVES, append=True)
    splits = {number: split_of(tmp_path / "out", f"sample.{number}") for number in range(12)}
    assert set(splits.values()) == {"train", "validation"}
    for number, split in splits.items():
        assert split_of(tmp_path / "out", f"copy-{number}") == split


def test_a_row_that_would_join_two_splits_is_left_out(tmp_path):
    write_corpus(tmp_path / "first", 12)
    shard_corpus(tmp_path / "first", tmp_path / "out", HALVES)
    splits = {number: split_of(tmp_path / "out", f"sample.{number}") for number in range(12)}
    train, validation = (
        next(n for n, split in splits.items() if split == name) for name in ("train", "validation")
    )
    rows = rows_of(tmp_path / "first")
    bridge = {"id": "b", "image": rows[train]["image"], "audio": rows[validation]["audio"]}
    write_rows(tmp_path / "first", [bridge, {"id": "new", "text": "something else"}])
    shard_corpus(tmp_path / "first", tmp_path / "out", HALVES, append=True)
    assert rejects_of(tmp_path / "out" / "rejects-001.jsonl")["b"][0] == "bridges-splits"
    assert split_of(tmp_path / "out", "b") is None


def test_an_append_killed_anywhere_leaves_the_old_set_and_ends_the_same(tmp_path):
    write_corpus(tmp_path / "first", 3)
    write_words(tmp_path / "second", ["one", "two", "three", "four"])
    folders = [tmp_path / name for name in ("first", "second", "work")]
    command = [sys.executable, "-c", KILL_APPEND_EVERYWHERE, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {old for old, _ in lines} == {"True", "False"}
    assert len({digest for _, digest in lines}) == 1


def test_only_a_finished_set_with_its_signatures_can_be_appended_to(tmp_path):
    write_corpus(tmp_path / "corpus", 2)
    with pytest.raises(ValueError, match="no finished shard set to append to"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", HALVES, append=True)
    shard_corpus(tmp_path / "corpus", tmp_path / "out", HALVES)
    (tmp_path / "out" / "signatures" / "generation-000.npy").unlink()
    with pytest.raises(ValueError, match="repetitions of earlier samples cannot be found"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", HALVES, append=True)
