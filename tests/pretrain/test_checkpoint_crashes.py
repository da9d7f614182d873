"""SIGKILL before every single thing that the commit protocol does with a file.

``python test_checkpoint_crashes.py FOLDER`` is the process under test: it forks a child for each
crash point, because a fork takes milliseconds and a start of Python does not.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kill_at
from pretrain.checkpoint import (
    CheckpointConfig,
    CheckpointWriter,
    OneRank,
    Progress,
    newest_complete,
    resume_point,
    take_lease,
)

MAX_POINTS = 200
KILLED = 9

BOUNDARIES = {
    "before the temporary folder": "os.mkdir *.tmp-",
    "before the rank's folder": "os.mkdir *.part",
    "within the rank's files": "open *.part/b.json w",
    "between two of the rank's files": "os.rename *.part/b.json",
    "before COMPLETE": "open */COMPLETE.",
    "before COMPLETE has its name": "os.rename */COMPLETE.",
    "before the rename": "os.rename *.tmp-*step-00000004 ",
    "before latest": "open *latest.",
    "before latest has its name": "os.rename *latest.",
    "before a removal": "os.remove *step-00000001/COMPLETE",
    "within a removal": "os.remove a.json",
}
"""Name -> what the event looks like; the stars are anything."""


def save(run: Path, step: int, keep: int = 2) -> None:
    """A checkpoint of two files, and the removal of older ones."""

    def write(folder: Path) -> None:
        for name in ("a.json", "b.json"):
            (folder / name).write_text(json.dumps([name, step]))

    writer = CheckpointWriter(run, OneRank(), CheckpointConfig())
    writer.save(Progress(step, 64 * step), [lambda: write])
    writer.wait()
    writer.retire(keep)
    writer.close()


def crash(base: Path, run: Path, number: int) -> bool:
    """Save step 4 in a child that dies at its ``number``-th event; whether it died."""
    shutil.copytree(base, run)
    pid = os.fork()
    if pid == 0:
        kill_at.KillAt(run, number, run.with_name("events.log"))
        save(run, 4)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == KILLED, status
        return True
    assert status == 0, status
    return False


def look(run: Path) -> dict[str, object]:
    """What a reader and the next start find, and whether the run can save again."""
    found = newest_complete(run)
    resumed = resume_point(run, OneRank())
    assert found is not None
    assert resumed == found
    leased = (run / "checkpoints" / "step-00000002").is_dir()
    save(run, found.step + 1)
    after = newest_complete(run)
    assert after is not None
    left = sorted(path.name for path in (run / "checkpoints").iterdir() if "lease" not in path.name)
    return {"found": found.step, "leased": leased, "after": after.step, "left": left}


def main() -> None:
    """Print a line of JSON for each crash point."""
    folder = Path(sys.argv[1])
    base = folder / "base"
    for step in (1, 2, 3):
        save(base, step, keep=9)
        if step == 2:
            leased = newest_complete(base)
            assert leased is not None
            take_lease(leased, "probe", base / "never.json")
    for number in range(1, MAX_POINTS):
        run = folder / f"run-{number}"
        killed = crash(base, run, number)
        print(json.dumps({"killed": killed, **look(run)}), flush=True)
        shutil.rmtree(run)
        if not killed:
            return


@pytest.fixture(scope="module")
def crashes(tmp_path_factory):
    """What was found after each crash, and the event before which it came."""
    folder = tmp_path_factory.mktemp("crashes")
    command = [sys.executable, "-W", "error", __file__, str(folder)]
    paths = os.pathsep.join([str(Path(kill_at.__file__).parent), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    *found, last = [json.loads(line) for line in ran.stdout.splitlines()]
    events = (folder / "events.log").read_text().splitlines()
    assert len(events) == len(found) > len(BOUNDARIES)
    assert last == {**last, "killed": False, "found": 4}
    return list(zip(events, found, strict=True))


def test_whatever_the_moment_of_a_crash_the_newest_committed_checkpoint_is_found(crashes):
    steps = [found["found"] for _, found in crashes]
    renamed = next(n for n, (event, _) in enumerate(crashes) if fits(event, "before the rename"))
    assert steps == [3] * (renamed + 1) + [4] * (len(steps) - renamed - 1)


def test_after_every_crash_the_run_saves_again_and_nothing_is_left_of_it(crashes):
    for event, found in crashes:
        assert found["after"] == found["found"] + 1, event
        kept = ["step-00000002", *(f"step-{found['after'] - back:08d}" for back in (1, 0))]
        assert found["left"] == ["latest", *sorted(set(kept))], event
        assert found["leased"], event


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_every_boundary_of_the_protocol_was_hit(crashes, boundary):
    assert any(fits(event, boundary) for event, _ in crashes)


def fits(event: str, boundary: str) -> bool:
    """Whether the pieces of a boundary's pattern are in the event, in their order."""
    at = 0
    for piece in BOUNDARIES[boundary].split("*"):
        at = event.find(piece, at)
        if at < 0:
            return False
    return True


if __name__ == "__main__":
    main()
