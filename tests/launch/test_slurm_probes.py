"""Probe arrays beside a training job, on a real Slurm of three nodes; see conftest.py."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from launch.cluster import ClusterConfig
from launch.job_record import read_jobs
from launch.jobs import submit_pretrain
from launch.probes.hook import ProbeOnCheckpoint
from launch.probes.states import has_report, probe_job_name
from launch.run_config import RunConfig, prepare_run
from launch.slurm_queue import jobs_of_names
from pretrain.checkpoint import Marker, Progress, open_checkpoint
from tiny import tiny_pretrain
from tiny_tasks import write_few_topics

pytestmark = pytest.mark.slurm

SCRIPT = Path(__file__).parents[2] / "slurm" / "probe.sbatch"
STEPS = (4, 8, 12)
GATE = """\
if [ -n "$SLURM_ARRAY_JOB_ID" ]; then
  until [ -e {gates}/$SLURM_JOB_NAME ]; do sleep 0.2; done
fi"""


def test_the_hook_puts_one_array_for_each_checkpoint_into_the_queue(slurm_cluster, tmp_path):
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / "step-00000100"
    checkpoint.mkdir(parents=True)
    marker = Marker(progress=Progress(100, 0), world_size=1, versions={}, files={})
    (checkpoint / "COMPLETE").write_text(marker.to_text())
    # Held up before it starts: whether the probe works is not asked here.
    cluster = {"setup": ["sleep 60"]}
    config = {"probe_tasks": ["a", "b"], "slurm": cluster, "pretrain": {"total_steps": 100}}
    (run / "config.json").write_text(json.dumps(config))
    hook = ProbeOnCheckpoint(run, ("a", "b"))
    hook(checkpoint)
    hook(checkpoint)
    hook.close()
    [job] = read_jobs(run)
    queued = jobs_of_names([probe_job_name(open_checkpoint(checkpoint).digest)])
    slurm_cluster.run("scancel", job.job_id)
    assert [one.job_id for one in queued] == [f"{job.job_id}_0", f"{job.job_id}_1"]


class Scene:
    """A run whose probes wait, each for its checkpoint's gate, and a watch beside it."""

    def __init__(self, cluster, folder, shards):
        self.cluster = cluster
        self.task = str(write_few_topics(folder, ["text"]).folder)
        self.gates = folder / "gates"
        self.gates.mkdir()
        self.config = RunConfig(
            run=folder / "run",
            pretrain=tiny_pretrain(
                shards,
                total_steps=STEPS[-1],
                checkpoint_every_steps=STEPS[0],
                keep_checkpoints=2,
            ),
            cluster="slurm",
            slurm=ClusterConfig(setup=(GATE.format(gates=self.gates),)),
            probe_tasks=(self.task,),
        )
        prepare_run(self.config, resume=False)
        self.run = self.config.run
        self.training = submit_pretrain(self.run, self.config.slurm)

    def watched(self):
        command = [sys.executable, "-m", "launch", "watch", str(self.run)]
        command += ["--every-seconds", "1", "--settle-seconds", "2"]
        with (self.run / "watch.out").open("w") as output:
            return subprocess.Popen(command, stdout=output)

    @contextmanager
    def held_after(self, step):
        """The training stands still after a checkpoint, so that there is more to come."""
        marker = self.run / "checkpoints" / f"step-{step:08d}" / "COMPLETE"
        self.cluster.wait_for(marker.exists, marker, seconds=180)
        rank = self.cluster.rank(self.training.job_id, 0)
        os.kill(rank, signal.SIGSTOP)
        yield
        os.kill(rank, signal.SIGCONT)

    def submitted(self, step):
        """The checkpoint and its newest element, once that is in the queue."""
        name = f"step-{step:08d}"
        found = lambda: [job for job in read_jobs(self.run) if job.checkpoint == name]  # noqa: E731
        self.cluster.wait_for(found, f"a probe of {name}", seconds=180)
        return open_checkpoint(self.run / "checkpoints" / name), f"{found()[-1].job_id}_0"

    def gate(self, checkpoint):
        return self.gates / probe_job_name(checkpoint.digest)

    def kill(self, element, then_close):
        """The process of a probe, as the kernel does where memory runs out."""
        job, _, number = element.partition("_")
        marks = f"SLURM_ARRAY_JOB_ID={job}", f"SLURM_ARRAY_TASK_ID={number}", "SLURM_STEP_ID=0"
        self.cluster.wait_for(lambda: self.cluster.processes(*marks), "the probe's process")
        then_close.unlink()
        for pid in self.cluster.processes(*marks):
            os.kill(pid, signal.SIGKILL)

    def wait_for_report(self, checkpoint):
        self.cluster.wait_for(
            lambda: has_report(checkpoint, self.task), f"{checkpoint.folder.name}'s report", 180
        )

    def state(self):
        return self.cluster.shown(self.training.job_id)["JobState"]


def test_probes_come_in_any_order_beside_the_training_and_are_shown_in_order_of_steps(
    slurm_cluster, tmp_path, sample_shards
):
    scene = Scene(slurm_cluster, tmp_path, sample_shards)
    watch = scene.watched()
    try:
        with scene.held_after(STEPS[1]):
            first, killed = scene.submitted(STEPS[0])
            scene.gate(first).touch()
            scene.kill(killed, then_close=scene.gate(first))
            second, _ = scene.submitted(STEPS[1])
            scene.gate(second).touch()
            slurm_cluster.wait_for_restart(killed, times=1)
            scene.wait_for_report(second)
            assert scene.state() == "RUNNING"

        third, cancelled = scene.submitted(STEPS[2])
        slurm_cluster.run("scancel", cancelled)
        scene.gate(third).touch()
        assert slurm_cluster.wait_for_job(scene.training.job_id, seconds=180) == "COMPLETED"
        scene.wait_for_report(third)

        # Two are kept, and the first one, which is still to be probed.
        kept = sorted(path.name for path in (scene.run / "checkpoints").glob("step-????????"))
        assert kept[0] == "step-00000004"
        assert not has_report(first, scene.task)
        scene.gate(first).touch()
        scene.wait_for_report(first)
        assert watch.wait(120) == 0
    finally:
        watch.kill()
        watch.wait()
    jobs = [job.checkpoint for job in read_jobs(scene.run) if job.kind == "probe"]
    assert sorted(jobs) == [f"step-{step:08d}" for step in (4, 8, 12, 12)]
    check_pages(scene.run, scene.run / "watch.out")
    check_script(slurm_cluster, third, scene.task)


def check_script(cluster, checkpoint, task):
    """The script for sites without submitit finds the same report."""
    before = (checkpoint.run / "probes" / checkpoint.folder.name / "few-topics.json").read_bytes()
    log = checkpoint.run / "script.log"
    answer = cluster.run(
        "env", f"TRIPTYCH_PYTHON={sys.executable}", "sbatch", "--parsable", f"--output={log}",
        str(SCRIPT), str(checkpoint.folder), task,
    )  # fmt: skip
    assert cluster.wait_for_job(answer.strip(), seconds=180) == "COMPLETED", log.read_text()
    assert "few-topics: macro-f1 in %, step-00000012" in log.read_text()
    after = (checkpoint.run / "probes" / checkpoint.folder.name / "few-topics.json").read_bytes()
    assert after == before


def check_pages(run, watch_output):
    events = EventAccumulator(str(run / "tensorboard" / "probes")).Reload()
    for tag in ("macro_f1", "random", "validation"):
        points = events.Scalars(f"probe/few-topics/text/{tag}")
        assert [event.step for event in points] == list(STEPS)
    best = json.loads((run / "best.json").read_text())["best"]
    page = (run / "report.html").read_text()
    assert f"Best checkpoint: {best['name']}, validation score" in page
    said = watch_output.read_text()
    arrived = [int(step) for step in re.findall(r"step-0*(\d+) on few-topics: text", said)]
    assert sorted(arrived) == list(STEPS)
    assert arrived != sorted(arrived)
    assert re.search(r"step-00000012 on few-topics: job \d+_0 ended without a report", said)
    assert "step-00000004 on few-topics: job" not in said  # its own script queued it again
    assert f"best checkpoint: {best['name']}" in said
