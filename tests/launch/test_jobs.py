"""With sbatch, srun and squeue as shell scripts; the real ones are in test_slurm.py."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cluster import ClusterConfig, SubmissionError, make_executor, submit_command
from launch.jobs import ProbeOnCheckpoint, probe_job_name, submit_pretrain, submit_probe
from pretrain.checkpoint import CheckpointError, Marker, Progress, open_checkpoint, remove_old

CLUSTER = ClusterConfig(
    nodes=2,
    ranks_per_node=8,
    gpus_per_node=8,
    cpus_per_task=12,
    memory_gb=480,
    walltime_minutes=240,
    partition="gpu",
    account="vision",
    setup=("module load cuda", "source slurm/nccl.env"),
    container=("apptainer", "exec", "--nv", "image.sif"),
)

GOLDEN = """\
#!/bin/bash

# Parameters
#SBATCH --account=vision
#SBATCH --cpus-per-task=12
#SBATCH --error=LOGS/%j_0_log.err
#SBATCH --gpus-per-node=8
#SBATCH --job-name=pretrain-base
#SBATCH --mem=480GB
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=LOGS/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=240

# setup
module load cuda
source slurm/nccl.env

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output LOGS/%j_%t_log.out --error LOGS/%j_%t_log.err \
--kill-on-bad-exit=1 --cpus-per-task=12 true


# teardown
code=$?
if [ "$code" -eq 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder of fake Slurm programs on PATH: sbatch records, squeue says what queue.txt says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "srun": "exit 1",
        "sbatch": f'env > {folder}/environment; cp "$1" {folder}/script; echo x >> {folder}/count\n'
        'echo "Submitted batch job 41"',
        "squeue": f'echo "$@" > {folder}/asked; cat {folder}/queue.txt',
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "queue.txt").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    folder = tmp_path / "run" / "checkpoints" / "step-00000100"
    folder.mkdir(parents=True)
    marker = Marker(progress=Progress(100, 3200), world_size=2, versions={}, files={})
    (folder / "COMPLETE").write_text(marker.to_text())
    return folder


def test_the_batch_script_is_ready_to_be_requeued(slurm, tmp_path):
    logs = tmp_path / "run" / "logs"
    executor = make_executor("pretrain-base", logs, CLUSTER)
    text = executor._make_submission_file_text("true", "uid")
    assert text.replace(str(logs), "LOGS").rstrip() == GOLDEN.rstrip()


def test_a_pretraining_job_runs_the_worker_on_every_rank(slurm, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    job = submit_pretrain(run, CLUSTER)
    command = f"apptainer exec --nv image.sif {sys.executable} -u -m launch.worker {run}\n"
    assert job.script.read_text().count(command) == 1
    assert job.job_id == "41"
    assert [path.name for path in job.stdout] == [f"41_{rank}_log.out" for rank in range(16)]
    assert not list(run.rglob("*.pkl"))


def test_a_folder_that_is_no_run_is_refused(slurm, tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json"):
        submit_pretrain(tmp_path, CLUSTER)
    assert not (slurm / "count").exists()


def test_the_surrounding_jobs_variables_do_not_reach_a_new_job(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "16")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("SLURM_CONF", "/site/slurm.conf")
    submit_command(["true"], "name", tmp_path / "logs", ClusterConfig())
    seen = (slurm / "environment").read_text().splitlines()
    assert not [line for line in seen if line.startswith(("SLURM_NTASKS=", "RANK="))]
    assert "SLURM_CONF=/site/slurm.conf" in seen
    assert os.environ["RANK"] == "0"


def test_sbatchs_complaint_is_the_errors_message(slurm, tmp_path, capsys):
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: no such account' >&2; exit 1\n")
    with pytest.raises(SubmissionError, match=r"name: .*no such account"):
        submit_command(["true"], "name", tmp_path / "logs", ClusterConfig())
    assert capsys.readouterr().err == ""


def test_without_slurm_the_error_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no sbatch and no srun on PATH"):
        submit_command(["true"], "name", tmp_path / "logs", ClusterConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 0}, "slurm.nodes must be positive"),
        ({"gpus_per_node": -1}, "slurm.gpus_per_node must not be negative"),
        ({"memory_gb": 0}, "slurm.memory_gb must be positive"),
        ({"walltime_minutes": 2}, "slurm.save_seconds 120 must be less"),
        ({"probe_walltime_minutes": 0}, "slurm.probe_walltime_minutes must be positive"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClusterConfig(**options)


def test_a_probe_asks_for_one_rank_and_is_named_after_the_weights(slurm, checkpoint):
    job = submit_probe(checkpoint, "topics", CLUSTER)
    script = job.script.read_text()
    assert job.name == probe_job_name(open_checkpoint(checkpoint).digest, "topics")
    assert f"-m launch probe {checkpoint} topics\n" in script
    for line in ("--nodes=1", "--ntasks-per-node=1", "--gpus-per-node=1", "--time=60"):
        assert f"#SBATCH {line}\n" in script


def leases(checkpoint):
    return list(checkpoint.parent.glob("*.lease-*"))


def test_a_checkpoint_stays_until_its_probe_has_reported(slurm, checkpoint):
    run = checkpoint.parents[1]
    for step in (200, 300):
        newer = checkpoint.with_name(f"step-{step:08d}")
        newer.mkdir()
        marker = Marker(progress=Progress(step, step), world_size=2, versions={}, files={})
        (newer / "COMPLETE").write_text(marker.to_text())
    job = submit_probe(checkpoint, "topics", CLUSTER)
    remove_old(run, keep=2, lease_hours=1.0)
    digest = open_checkpoint(checkpoint).digest
    assert [job.name in lease.name for lease in leases(checkpoint)] == [True]
    report = run / "probes" / checkpoint.name / "topics.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"checkpoint": {"digest": digest}}))
    remove_old(run, keep=2, lease_hours=1.0)
    assert not checkpoint.exists()
    assert leases(checkpoint) == []


def test_a_submission_that_is_refused_keeps_no_checkpoint(slurm, checkpoint):
    (slurm / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(SubmissionError):
        submit_probe(checkpoint, "topics", CLUSTER)
    assert leases(checkpoint) == []


def test_a_probe_whose_log_cannot_be_written_leaves_no_lease(slurm, checkpoint):
    (checkpoint.parents[1] / "logs").write_text("no folder")
    with pytest.raises(FileExistsError):
        submit_probe(checkpoint, "topics", CLUSTER)
    assert leases(checkpoint) == []


def test_a_probe_in_the_queue_is_not_submitted_again(slurm, checkpoint):
    (slurm / "queue.txt").write_text("17\n")
    assert submit_probe(checkpoint, "topics", CLUSTER) is None
    name = probe_job_name(open_checkpoint(checkpoint).digest, "topics")
    assert f"--name={name}" in (slurm / "asked").read_text()
    assert not (slurm / "count").exists()


def test_a_probe_whose_report_is_there_is_not_submitted_again(slurm, checkpoint):
    report = checkpoint.parents[1] / "probes" / checkpoint.name / "topics.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"checkpoint": {"digest": open_checkpoint(checkpoint).digest}}))
    assert submit_probe(checkpoint, "topics", CLUSTER) is None


def test_a_report_of_other_weights_does_not_count(slurm, checkpoint):
    report = checkpoint.parents[1] / "probes" / checkpoint.name / "topics.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"checkpoint": {"digest": "0" * 64}}))
    assert submit_probe(checkpoint, "topics", CLUSTER) is not None


def test_a_half_written_checkpoint_gets_no_probe(slurm, checkpoint):
    (checkpoint / "COMPLETE").unlink()
    with pytest.raises(CheckpointError):
        submit_probe(checkpoint, "topics", CLUSTER)


def test_the_hook_submits_a_probe_of_each_task(slurm, checkpoint, caplog):
    caplog.set_level(logging.INFO, logger="launch.jobs")
    hook = ProbeOnCheckpoint(("topics", "sentiment"), CLUSTER)
    hook(checkpoint)
    hook.close()
    assert (slurm / "count").read_text().count("x") == 2
    assert caplog.text.count("job 41") == 2
    assert len(leases(checkpoint)) == 2


def test_what_goes_wrong_in_the_hook_is_a_warning_and_not_an_error(slurm, checkpoint, caplog):
    (slurm / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error' >&2; exit 1\n")
    hook = ProbeOnCheckpoint(("topics",), CLUSTER)
    hook(checkpoint)
    hook.close()
    assert "no probe on topics" in caplog.text
    assert "slurm_load_jobs error" in caplog.text
    assert leases(checkpoint) == []
    (checkpoint / "COMPLETE").unlink()
    hook = ProbeOnCheckpoint(("topics",), CLUSTER)
    hook(checkpoint)
    hook.close()
    assert "no COMPLETE file" in caplog.text


@pytest.mark.parametrize("name", ["pretrain", "probe"])
def test_the_scripts_for_sbatch_are_shell_and_ask_for_their_arguments(name):
    script = Path(__file__).parents[2] / "slurm" / f"{name}.sbatch"
    assert shutil.which("bash")
    subprocess.run(["bash", "-n", str(script)], check=True)
    refused = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert f"usage: sbatch slurm/{name}.sbatch" in refused.stderr
