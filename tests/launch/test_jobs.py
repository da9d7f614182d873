"""With sbatch, srun and squeue as shell scripts; the real ones are in test_slurm.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cluster import ClusterConfig, SubmissionError, make_executor, submit_command
from launch.jobs import submit_pretrain

CLUSTER = ClusterConfig(
    nodes=2,
    ranks_per_node=8,
    gpus_per_node=8,
    cpus_per_task=12,
    memory_gb=480,
    walltime_minutes=240,
    partition="gpu",
    account="vision",
    qos="long",
    constraint="h100",
    setup=("module load cuda", "source slurm/nccl.env"),
    container=("apptainer", "exec", "--nv", "image.sif"),
)

GOLDEN = """\
#!/bin/bash

# Parameters
#SBATCH --account=vision
#SBATCH --constraint=h100
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
#SBATCH --qos=long
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
if [ "$code" -eq 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
  scontrol requeue "$SLURM_JOB_ID"
elif [ "$code" -eq 75 ]; then
  echo "triptych: saved, and not queued again: slurm.max_requeues is 100" >&2
fi
exit "$code"
"""

LEAST = """\
#SBATCH --cpus-per-task=1
#SBATCH --error=LOGS/%j_0_log.err
#SBATCH --job-name=least
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=LOGS/%j_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=60
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


def test_the_batch_script_is_ready_to_be_requeued(slurm, tmp_path):
    logs = tmp_path / "run" / "logs"
    executor = make_executor("pretrain-base", logs, CLUSTER)
    text = executor._make_submission_file_text("true", "uid")
    assert text.replace(str(logs), "LOGS").rstrip() == GOLDEN.rstrip()


def test_what_is_not_given_is_not_asked_for(slurm, tmp_path):
    logs = tmp_path / "run" / "logs"
    text = make_executor("least", logs, ClusterConfig())._make_submission_file_text("true", "uid")
    asked = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert "\n".join(asked).replace(str(logs), "LOGS") == LEAST.rstrip()
    assert "# setup" not in text


def test_a_pretraining_job_runs_the_worker_on_every_rank(slurm, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    job = submit_pretrain(run, CLUSTER)
    command = f"apptainer exec --nv image.sif {sys.executable} -u -m launch.worker {run}\n"
    script = job.script.read_text()
    assert script.count(command) == 1
    ask_port = f"apptainer exec --nv image.sif {sys.executable} -m launch.rendezvous"
    assert f'nccl.env\nexport MASTER_PORT="${{MASTER_PORT:-$({ask_port})}}"\n' in script
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


@pytest.mark.parametrize("name", ["pretrain", "probe"])
def test_the_scripts_for_sbatch_are_shell_and_ask_for_their_arguments(name):
    script = Path(__file__).parents[2] / "slurm" / f"{name}.sbatch"
    assert shutil.which("bash")
    subprocess.run(["bash", "-n", str(script)], check=True)
    refused = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert f"usage: sbatch slurm/{name}.sbatch" in refused.stderr
