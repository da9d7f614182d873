import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_sharding import writer
from data_sharding.cleaning.clean import CleanConfig
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.job.claim import locked
from data_sharding.job.folder import UNFINISHED, JobFolder
from data_sharding.manifest import ShardSet
from data_sharding.schema import ShardError
from tiny_corpus import write_corpus

SMALL = ShardingConfig(
    samples_per_shard=2, rows_per_task=3, licence="CC0-1.0", max_reject_share=0.5
)

# Forks a child for each call that makes something durable or visible; the child kills itself
# there; a second child finishes the job. Prints how many were killed, and every digest. All work is
# done in the child itself: in a pool's processes nothing would be killed.
KILL_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.job.engines import LocalEngine
from data_sharding.manifest import ShardSet

corpus, work = Path(sys.argv[1]), Path(sys.argv[2])

def job(out, calls_before_death):
    left = [calls_before_death]
    def deadly(act):
        def wrapped(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **options)
        return wrapped
    if calls_before_death:
        for name in ("fsync", "replace", "unlink", "rmdir"):
            setattr(os, name, deadly(getattr(os, name)))
    config = ShardingConfig(samples_per_shard=2, rows_per_task=3, max_reject_share=0.5)
    shard_corpus(corpus, out, config, LocalEngine(workers=1))

def child(out, calls_before_death=0):
    pid = os.fork()
    if pid == 0:
        try:
            job(out, calls_before_death)
        except ValueError as error:
            os._exit(3 if "already holds a finished" in str(error) else 4)
        except BaseException:
            os._exit(4)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

for calls in range(1, 1000):
    out = work / str(calls)
    killed = os.WIFSIGNALED(child(out, calls))
    if killed:
        try:
            ShardSet.open(out)
            whole = True
        except Exception:
            whole = False
        status = os.waitstatus_to_exitcode(child(out))
        assert status == 0 or (status == 3 and whole), (calls, status)
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if "unfinished" not in str(p))
    rejects = (out / "rejects.jsonl").read_bytes()
    print(calls, ShardSet.open(out).digest, hash((tuple(names), rejects)))
    if not killed:
        break
"""


def test_two_runs_have_the_same_digest_and_bytes(tmp_path):
    write_corpus(tmp_path / "corpus", 7)
    reports = [shard_corpus(tmp_path / "corpus", tmp_path / name, SMALL) for name in "ab"]
    assert reports[0].digest == reports[1].digest
    for path in filter(Path.is_file, (tmp_path / "a").rglob("*")):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes()
    assert not (tmp_path / "a" / UNFINISHED).exists()


def test_other_settings_have_another_digest(tmp_path):
    write_corpus(tmp_path / "corpus", 4)
    other = ShardingConfig(samples_per_shard=2, clean=CleanConfig(max_text_bytes=999))
    first = shard_corpus(tmp_path / "corpus", tmp_path / "a", SMALL)
    assert first.digest != shard_corpus(tmp_path / "corpus", tmp_path / "b", other).digest


def test_a_job_killed_anywhere_and_run_again_gives_the_same_set(tmp_path):
    manifest = write_corpus(tmp_path / "corpus", 3)
    with manifest.open("a") as file:
        file.write("broken row\n")
    command = [sys.executable, "-c", KILL_EVERYWHERE, tmp_path / "corpus", tmp_path / "work"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) > 30
    assert len({tuple(rest) for _, *rest in lines}) == 1


def test_an_unfinished_job_keeps_its_finished_shards_and_distrusts_the_rest(tmp_path):
    write_corpus(tmp_path / "corpus", 6)
    out = tmp_path / "out"
    expected = shard_corpus(tmp_path / "corpus", tmp_path / "whole", SMALL)
    kept = stop_after_first_shard(tmp_path / "corpus", out)
    (out / "shard-000007.tar").write_bytes(b"left behind")
    (out / UNFINISHED / "scratch" / "shard-000001.tar.tmp").write_bytes(b"half")
    with pytest.raises(ShardError, match="is no shard set"):
        ShardSet.open(out)
    assert shard_corpus(tmp_path / "corpus", out, SMALL).digest == expected.digest
    assert (out / "shard-000000.tar").stat().st_ino == kept
    assert not (out / "shard-000007.tar").exists()


def stop_after_first_shard(corpus, out):
    """Runs a job that fails at its second shard; returns the inode of the first."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    original, calls = writer.publish, []

    def publish(temporary, final):
        calls.append(final)
        return (fail if len(calls) > 1 else original)(temporary, final)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "publish", publish)
        with pytest.raises(OSError, match="No space left"):
            shard_corpus(corpus, out, SMALL)
    assert {path.name for path in out.glob("*.tar")} == {"shard-000000.tar"}
    assert not list(out.rglob("*.tmp"))
    return (out / "shard-000000.tar").stat().st_ino


def test_a_shard_that_lost_bytes_after_its_receipt_is_made_again(tmp_path):
    write_corpus(tmp_path / "corpus", 6)
    expected = shard_corpus(tmp_path / "corpus", tmp_path / "whole", SMALL)
    stop_after_first_shard(tmp_path / "corpus", tmp_path / "out")
    (tmp_path / "out" / "shard-000000.tar").write_bytes(b"short")
    again = shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)
    assert again.digest == expected.digest
    assert (tmp_path / "out" / "shard-000000.tar").stat().st_size > 512


def test_a_folder_with_other_content_is_refused_and_not_touched(tmp_path):
    write_corpus(tmp_path / "corpus", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    with pytest.raises(ValueError, match="is a file"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out" / "thesis.txt", SMALL)


def test_a_finished_set_is_not_overwritten(tmp_path):
    write_corpus(tmp_path / "corpus", 2)
    shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)
    with pytest.raises(ValueError, match="already holds a finished shard set"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)


def test_another_job_may_not_finish_an_unfinished_one(tmp_path):
    write_corpus(tmp_path / "corpus", 6)
    stop_after_first_shard(tmp_path / "corpus", tmp_path / "out")
    settings = "another corpus or with other settings .*config.samples_per_shard 2 -> 10000"
    with pytest.raises(ValueError, match=settings):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", ShardingConfig())
    write_corpus(tmp_path / "corpus", 5)
    with pytest.raises(ValueError, match=r"another corpus .*sources"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)


def test_a_second_driver_is_refused(tmp_path):
    write_corpus(tmp_path / "corpus", 6)
    out = tmp_path / "out"
    stop_after_first_shard(tmp_path / "corpus", out)
    with locked(JobFolder(out)), pytest.raises(ValueError, match="another process is sharding"):
        shard_corpus(tmp_path / "corpus", out, SMALL)
    assert shard_corpus(tmp_path / "corpus", out, SMALL).num_samples == 6


def test_media_that_change_between_check_and_write_are_noticed(tmp_path):
    write_corpus(tmp_path / "corpus", 6)
    stop_after_first_shard(tmp_path / "corpus", tmp_path / "out")
    for medium in (tmp_path / "corpus").glob("*.png"):
        other = next((tmp_path / "corpus").glob("*.jpg"))
        medium.write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=r"row \d .* changed while it was sharded"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)


def test_an_unreadable_manifest_leaves_no_folder_behind(tmp_path):
    (tmp_path / "manifest.csv").write_text("caption\nhello\n")
    with pytest.raises(ValueError, match="no column text, image or audio"):
        shard_corpus(tmp_path / "manifest.csv", tmp_path / "out", SMALL)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match="holds no rows"):
        shard_corpus(tmp_path / "empty.jsonl", tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_the_manifest_names_its_sources_and_licence_without_paths(tmp_path):
    write_corpus(tmp_path / "corpus", 2)
    shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)
    opened = ShardSet.open(tmp_path / "out")
    assert opened.licence == "CC0-1.0"
    assert [source["file"] for source in opened.sources] == ["manifest.jsonl"]
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()


def test_a_shard_is_cut_at_its_size_in_bytes(tmp_path):
    write_corpus(tmp_path / "corpus", 8)
    config = ShardingConfig(shard_size_bytes=1)
    assert shard_corpus(tmp_path / "corpus", tmp_path / "out", config).num_shards == 8


@pytest.mark.parametrize("missing", [("image",), ("audio",), ("text",), ("image", "audio")])
def test_a_corpus_may_lack_a_modality(tmp_path, missing):
    write_corpus(tmp_path / "corpus", 4, missing=missing)
    report = shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)
    assert set(report.present) == {"text", "image", "audio"} - set(missing)


def test_an_altered_manifest_is_noticed(tmp_path):
    write_corpus(tmp_path / "corpus", 2)
    shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)
    path = tmp_path / "out" / "manifest.json"
    content = json.loads(path.read_text())
    content["num_samples"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ShardError, match="digest does not match"):
        ShardSet.open(tmp_path / "out")


def test_what_is_no_shard_set_is_named(shards, tmp_path):
    with pytest.raises(ShardError, match="nowhere is no shard set"):
        ShardSet.open(tmp_path / "nowhere")
    with pytest.raises(ShardError, match="is no shard set"):
        ShardSet.open(tmp_path)
    with pytest.raises(ShardError, match="no split 'validation'; it has test, train"):
        ShardSet.open(shards, "validation")
