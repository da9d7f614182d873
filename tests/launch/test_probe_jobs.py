"""With sbatch and squeue as shell scripts; the real ones are in test_slurm_probes.py."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_sharding.folder_lock import HeldError, held
from launch.cluster import ClusterConfig, SubmissionError
from launch.job_record import read_jobs
from launch.probes.hook import ProbeOnCheckpoint
from launch.probes.jobs import submit_missing_probes, submit_probe
from launch.probes.states import Settling, probe_job_name
from pretrain.checkpoint import CheckpointError, Marker, Progress, open_checkpoint, remove_old

CLUSTER = ClusterConfig(gpus_per_node=8, ranks_per_node=8, setup=("module load cuda",))
TASKS = ("topics", "moods")
SBATCH = """\
number=$(cat {folder}/next); echo $((number + 1)) > {folder}/next
cp "$1" {folder}/script-$number
name=$(sed -n 's/^#SBATCH --job-name=//p' "$1")
for element in $(seq $(sed -n 's/^#SBATCH --array=\\([0-9]*\\)-*\\([0-9]*\\)$/\\1 \\2/p' "$1")); do
  echo "${number}_$element|PENDING|Resources|0:00|1:00||$name" >> {folder}/queue
done
echo "Submitted batch job $number"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Fake programs on PATH: sbatch puts jobs into a file that squeue shows."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {"srun": "exit 1", "squeue": "cat {folder}/queue", "sbatch": SBATCH}
    for name, text in scripts.items():
        text = text.replace("{folder}", str(folder))
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "queue").write_text("")
    (folder / "next").write_text("41\n")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"probe_tasks": TASKS, "slurm": {"gpus_per_node": 8}, "pretrain": {"total_steps": 300}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def commit(run, step):
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    marker = Marker(progress=Progress(step, 32 * step), world_size=2, versions={}, files={})
    (folder / "COMPLETE").write_text(marker.to_text())
    return open_checkpoint(folder)


def report(checkpoint, task, digest=None):
    path = checkpoint.run / "probes" / checkpoint.folder.name / f"{task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"checkpoint": {"digest": digest or checkpoint.digest}}))


def submit(run, tasks=TASKS, settle=0.0, attempts=3):
    return submit_missing_probes(run, tasks, CLUSTER, Settling(settle), attempts)


def submitted(run):
    return [(job.checkpoint, job.tasks) for job in read_jobs(run)]


def leases(checkpoint):
    return sorted(path.name for path in checkpoint.folder.parent.glob("*.lease-*"))


def empty_queue(slurm):
    (slurm / "queue").write_text("")


def test_a_checkpoint_gets_one_array_with_an_element_for_each_task(slurm, run):
    checkpoint = commit(run, 100)
    [job] = submit(run).submitted
    script = (slurm / "script-41").read_text()
    command = f"{sys.executable} -u -m launch.probes.element {checkpoint.folder} "
    assert f"{command}{checkpoint.digest} topics moods\n" in script
    for line in ("--array=0-1", "--ntasks-per-node=1", "--gpus-per-node=1", "--time=60"):
        assert f"#SBATCH {line}\n" in script
    assert job.name == probe_job_name(checkpoint.digest)
    assert submitted(run) == [("step-00000100", TASKS)]


def test_what_failed_or_was_killed_is_queued_again_by_its_script_and_a_refusal_is_not(slurm, run):
    commit(run, 100)
    submit(run)
    teardown = (slurm / "script-41").read_text().split("# teardown\n")[1]
    (slurm / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {slurm}/requeued\n')
    (slurm / "scontrol").chmod(0o755)
    for code, restarts in ((0, 0), (1, 0), (2, 0), (137, 1), (137, 2)):
        script = f"(exit {code})\n{teardown}"
        environ = os.environ | {"SLURM_JOB_ID": f"{code}", "SLURM_RESTART_COUNT": f"{restarts}"}
        ended = subprocess.run(["bash", "-c", script], env=environ, check=False)
        assert ended.returncode == code
    assert (slurm / "requeued").read_text().split("\n")[:-1] == ["requeue 1", "requeue 137"]


def test_asking_again_submits_nothing_while_probes_are_queued_or_done(slurm, run):
    checkpoint = commit(run, 100)
    assert len(submit(run).submitted) == 1
    assert submit(run).submitted == []
    empty_queue(slurm)
    report(checkpoint, "topics")
    report(checkpoint, "moods")
    assert submit(run).submitted == []
    assert submit_probe(checkpoint, "topics", CLUSTER) is None


def test_only_the_elements_that_failed_are_submitted_again(slurm, run):
    checkpoint = commit(run, 100)
    submit(run)
    empty_queue(slurm)
    report(checkpoint, "topics")
    found = submit(run)
    assert [(probe.task, probe.job_id) for probe in found.failed] == [("moods", "41_1")]
    assert found.failed[0].log == run / "logs" / "41_1_0_log.err"
    assert submitted(run)[1:] == [("step-00000100", ("moods",))]
    assert "#SBATCH --array=0\n" in (slurm / "script-42").read_text()


def test_an_element_that_is_still_queued_is_left_alone(slurm, run):
    commit(run, 100)
    submit(run)
    lines = (slurm / "queue").read_text().splitlines()
    (slurm / "queue").write_text(lines[1] + "\n")
    assert [probe.task for probe in submit(run).failed] == ["topics"]
    assert submitted(run)[1:] == [("step-00000100", ("topics",))]


def test_failed_probes_of_earlier_checkpoints_are_submitted_with_the_next(slurm, run):
    commit(run, 100)
    submit(run)
    empty_queue(slurm)
    commit(run, 200)
    submit(run)
    assert submitted(run)[1:] == [("step-00000100", TASKS), ("step-00000200", TASKS)]


def test_a_probe_is_given_up_after_three_jobs_and_its_checkpoint_let_go(slurm, run):
    checkpoint = commit(run, 100)
    for _ in range(3):
        assert len(submit(run, ("topics",)).submitted) == 1
        assert len(leases(checkpoint)) == 1
        empty_queue(slurm)
    found = submit(run, ("topics",))
    assert [probe.attempts for probe in found.given_up] == [3]
    assert found.submitted == []
    assert leases(checkpoint) == []
    # Who asks for it by name gets it.
    assert submit_probe(checkpoint, "topics", CLUSTER) is not None


def test_a_report_of_other_weights_does_not_count(slurm, run):
    checkpoint = commit(run, 100)
    report(checkpoint, "topics", digest="0" * 64)
    assert [job.tasks for job in submit(run, ("topics",)).submitted] == [("topics",)]


def test_attempts_on_weights_that_were_replaced_do_not_count(slurm, run):
    checkpoint = commit(run, 100)
    for _ in range(3):
        submit(run, ("topics",))
        empty_queue(slurm)
    marker = Marker(progress=Progress(100, 7), world_size=2, versions={}, files={})
    (checkpoint.folder / "COMPLETE").write_text(marker.to_text())
    assert len(submit(run, ("topics",)).submitted) == 1


def test_a_report_may_be_late_on_shared_storage(slurm, run):
    checkpoint = commit(run, 100)
    submit(run, ("topics",))
    empty_queue(slurm)
    settling = Settling(0.3)
    look = lambda: submit_missing_probes(run, ("topics",), CLUSTER, settling)  # noqa: E731
    assert len(look().in_doubt) == 1
    assert look().submitted == []
    time.sleep(0.3)
    report(checkpoint, "topics")
    assert look().submitted == []
    (run / "probes" / "step-00000100" / "topics.json").unlink()
    assert len(look().submitted) == 1


def test_a_job_whose_submitter_died_before_it_was_recorded_is_not_doubled(slurm, run):
    checkpoint = commit(run, 100)
    name = probe_job_name(checkpoint.digest)
    (slurm / "queue").write_text(f"7_0|RUNNING|None|0:10|0:50|n1|{name}\n")
    assert {probe.state for probe in submit(run).states} == {"queued"}
    assert submitted(run) == []


def test_two_submitters_at_once_submit_once(slurm, run):
    commit(run, 100)
    commit(run, 200)
    script = "import sys, launch.probes.jobs as jobs; jobs.main(0.1)"
    command = [sys.executable, "-c", script, str(run)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = "".join(process.communicate(timeout=60)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0, 0]
    assert sorted(submitted(run)) == [("step-00000100", TASKS), ("step-00000200", TASKS)]
    assert said.count("probes topics, moods") == 2


def test_who_submits_waits_for_its_turn_but_not_for_ever(slurm, run, monkeypatch):
    commit(run, 100)
    (run / "probes").mkdir()
    with held(run / "probes" / "submit.lock"):
        monkeypatch.setattr("launch.probes.permission.LOCK_SECONDS", 0.2)
        with pytest.raises(HeldError, match="in use by process"):
            submit(run)
        monkeypatch.setattr("launch.probes.permission.LOCK_SECONDS", 60.0)
        waiting = threading.Thread(target=submit, args=(run,))
        waiting.start()
        time.sleep(0.5)
        assert submitted(run) == []
    waiting.join(60)
    assert submitted(run) == [("step-00000100", TASKS)]


def test_a_checkpoint_stays_until_its_probes_have_reported(slurm, run):
    checkpoint = commit(run, 100)
    submit(run)
    commit(run, 200)
    commit(run, 300)
    for task in TASKS:
        remove_old(run, keep=2, lease_hours=1.0)
        assert checkpoint.folder.exists()
        report(checkpoint, task)
    remove_old(run, keep=2, lease_hours=1.0)
    assert not checkpoint.folder.exists()
    assert leases(checkpoint) == []


def test_a_submission_that_is_refused_keeps_no_checkpoint(slurm, run):
    checkpoint = commit(run, 100)
    (slurm / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(SubmissionError):
        submit(run)
    assert leases(checkpoint) == []
    assert submitted(run) == []


def test_a_half_written_checkpoint_gets_no_probe(slurm, run):
    checkpoint = commit(run, 100)
    (checkpoint.folder / "COMPLETE").unlink()
    assert submit(run).states == []
    with pytest.raises(CheckpointError):
        submit_probe(checkpoint, "topics", CLUSTER)


def test_the_hook_leases_at_once_and_submits_in_the_background(slurm, run, caplog):
    caplog.set_level(logging.INFO, logger="launch.probes.hook")
    hook = ProbeOnCheckpoint(run, TASKS)
    checkpoint = commit(run, 100)
    (slurm / "squeue").write_text(f"#!/bin/sh\nwhile [ ! -e {slurm}/go ]; do sleep 0.1; done\n")
    began = time.monotonic()
    hook(checkpoint.folder)
    assert time.monotonic() - began < 1.0
    assert len(leases(checkpoint)) == 2
    (slurm / "go").touch()
    hook.close()
    assert submitted(run) == [("step-00000100", TASKS)]
    assert "step-00000100: job 41 probes topics, moods" in caplog.text
    assert len(leases(checkpoint)) == 2


def test_what_goes_wrong_in_the_hook_is_a_warning_and_not_an_error(slurm, run, caplog):
    (slurm / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error' >&2; exit 1\n")
    checkpoint = commit(run, 100)
    hook = ProbeOnCheckpoint(run, TASKS)
    hook(checkpoint.folder)
    hook.close()
    assert "slurm_load_jobs error" in caplog.text
    assert leases(checkpoint) == []
    (checkpoint.folder / "COMPLETE").unlink()
    hook(checkpoint.folder)
    assert "no COMPLETE file" in caplog.text
