"""Two real gloo ranks write and read checkpoints together; one spawned pair does it all."""

import json
import os
import resource
import signal
import socket
import time
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from pretrain.checkpoint import (
    CheckpointConfig,
    CheckpointError,
    CheckpointWriter,
    Progress,
    newest_complete,
    open_checkpoint,
    resume_point,
)
from pretrain.checkpoint.group import GroupRanks

SLOW_SECONDS = 1.0


class Pair:
    """One of the two ranks, with what it has to do."""

    def __init__(self, run: Path, rank: int) -> None:
        self.run, self.rank = run, rank
        self.ranks = GroupRanks()
        self.writer = CheckpointWriter(run, self.ranks, CheckpointConfig())

    def part(self, name: str = "rank-{rank}.json", wait: float = 0.0, fail: str = ""):
        """Writes one file; on the second rank slowly, or not at all."""

        def write(folder: Path) -> None:
            if self.rank == 1:
                time.sleep(wait)
                if fail == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if fail:
                    raise OSError(122, fail)
            (folder / name.format(rank=self.rank)).write_text(json.dumps(self.rank))

        return lambda: write

    def refused(self, step: int, part) -> str:
        """What the write of a checkpoint that fails is told as."""
        self.writer.save(Progress(step, step), [part])
        try:
            self.writer.wait()
        except CheckpointError as error:
            return str(error)
        return "not refused"

    def slow(self) -> dict[str, object]:
        """The second rank is slow: how long `save` held training up, and what was there then."""
        self.ranks.gather(None)  # both are here
        began = time.monotonic()
        self.writer.save(Progress(1, 1), [self.part(wait=SLOW_SECONDS)])
        held_up = time.monotonic() - began
        early, seen_early = [], False
        while not early:
            seen_early |= newest_complete(self.run) is not None
            latest = self.run / "checkpoints" / "latest"
            seen_early |= latest.exists()
            early = self.writer.poll()
            took = time.monotonic() - began
        return {"held_up": held_up, "took": took, "seen_early": seen_early}

    def damaged(self) -> int:
        """The step that both go on from when the second rank's newest file is damaged."""
        if self.rank == 0:
            newest = sorted((self.run / "checkpoints").glob("step-????????"))[-1]
            (newest / "rank-1.json").write_text("9")
        self.ranks.gather(None)
        resumed = resume_point(self.run, self.ranks)
        assert resumed is not None
        return resumed.step

    def unreadable(self) -> str:
        """What both are told when the second rank may open no file."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        if self.rank == 1:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            resume_point(self.run, self.ranks)
        except CheckpointError as error:
            return str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        return "not refused"

    def none_whole(self) -> str:
        """What both are told in a run where nothing is whole."""
        (self.run / "broken" / "checkpoints" / "step-00000001").mkdir(parents=True, exist_ok=True)
        self.ranks.gather(None)
        try:
            resume_point(self.run / "broken", self.ranks)
        except CheckpointError as error:
            return str(error)
        return "not refused"

    def dying(self) -> str:
        """The other rank dies while it writes: how training hears of it."""
        self.writer.save(Progress(9, 9), [self.part(wait=0.2, fail="die")])
        try:
            self.writer.wait()
        except RuntimeError as error:
            return type(error).__name__
        return "not noticed"


def work(rank: int, run: Path, port: int) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    pair = Pair(run, rank)
    told = {
        "slow": pair.slow(),
        "failing": pair.refused(2, pair.part(fail="Disk quota exceeded")),
        "left": sorted(path.name for path in (run / "checkpoints").iterdir()),
        "same file": pair.refused(2, pair.part("shared.json")),
        "vanished": pair.refused(2, vanishing(pair)),
        "none whole": pair.none_whole(),
    }
    pair.writer.save(Progress(2, 2), [pair.part()])
    told["written"] = [folder.name for folder in pair.writer.wait()]
    told["unreadable"] = pair.unreadable()
    told["still there"] = sorted(path.name for path in (run / "checkpoints").iterdir())
    told["resumed at"] = pair.damaged()
    (run / f"told-{rank}.json").write_text(json.dumps(told))
    began = time.monotonic()
    told["dying"] = pair.dying()  # the second rank does not come back from it
    told["noticed after"] = time.monotonic() - began
    (run / f"told-{rank}.json").write_text(json.dumps(told))
    os._exit(0)


def vanishing(pair: Pair):
    """As if the second rank's folder were another than the first one's."""

    def write(folder: Path) -> None:
        (folder / f"rank-{pair.rank}.json").write_text("{}")
        if pair.rank == 0:
            time.sleep(0.3)
            (folder.parent / "rank-1.json").unlink(missing_ok=True)

    return lambda: write


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each rank was told."""
    run = tmp_path_factory.mktemp("pair")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    context = mp.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, run, port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL]
    return run, [json.loads((run / f"told-{rank}.json").read_text()) for rank in range(2)]


def test_a_slow_rank_neither_holds_training_up_nor_lets_a_checkpoint_appear_early(told):
    for one in told[1]:
        assert one["slow"]["held_up"] < SLOW_SECONDS / 2
        assert one["slow"]["took"] >= SLOW_SECONDS
        assert not one["slow"]["seen_early"]


def test_one_ranks_failure_is_told_by_the_same_error_on_all_and_leaves_nothing(told):
    first, second = told[1]
    assert first["failing"] == second["failing"]
    assert "rank 1: OSError: [Errno 122] Disk quota exceeded" in first["failing"]
    assert first["left"] == ["latest", "step-00000001"]


def test_two_ranks_cannot_write_the_same_file(told):
    first, second = told[1]
    assert first["same file"] == second["same file"]
    assert "shared.json was written by another rank already" in first["same file"]


def test_a_folder_that_is_not_shared_is_told_before_anything_is_committed(told):
    first, second = told[1]
    assert first["vanished"] == second["vanished"]
    assert "rank-1.json is not what the ranks have written; is the run folder" in first["vanished"]


def test_all_ranks_pass_over_a_checkpoint_that_one_of_them_finds_damaged(told):
    assert [one["written"] for one in told[1]] == [["step-00000002"]] * 2
    assert [one["resumed at"] for one in told[1]] == [1, 1]


def test_a_checkpoint_that_one_rank_cannot_open_is_refused_on_all_and_stays(told):
    first, second = told[1]
    assert first["unreadable"] == second["unreadable"]
    assert "step-00000002: rank 1 cannot read it now" in first["unreadable"]
    assert first["still there"] == ["latest", "step-00000001", "step-00000002"]


def test_a_run_without_any_whole_checkpoint_is_refused_on_every_rank(told):
    first, second = told[1]
    assert first["none whole"] == second["none whole"]
    assert "none of its 1 checkpoints is whole" in first["none whole"]


def test_a_rank_that_dies_while_writing_ends_the_wait_and_commits_nothing(told):
    run, (first, _) = told
    assert first["dying"] == "RuntimeError"
    assert first["noticed after"] < 30
    assert open_checkpoint(run).step == 1
