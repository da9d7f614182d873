"""Scenes of the cluster drill: sharding arrays, second submissions, and what Slurm refuses."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from cluster_run import BEFORE, ClusterGround, PretrainJob
from drill_disk import small_disk
from drill_looks import expect
from drill_run import Seen

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.job.engines import LocalEngine
from eval.importers.sample_topics import CORPUS
from launch.cluster import ClusterConfig
from launch.preemption import EXIT_REFUSED
from launch.shard_array import slurm_engine

EIGHT_TASKS = ShardingConfig(rows_per_task=60, samples_per_shard=40)


def killed_element(ground: ClusterGround) -> Seen:
    """Sharding in arrays of eight tasks, one of which is killed by kill -9."""
    folder = ground.ground.folder
    here = shard_corpus(CORPUS, folder / "array-local", EIGHT_TASKS, LocalEngine(workers=2))
    # Words before the command of each element: once, element 3 dies as it starts.
    once = f'[ "$SLURM_ARRAY_TASK_ID" = 3 ] && mkdir {folder}/array-killed && kill -9 $$; exec "$@"'
    engine = slurm_engine(
        ClusterConfig(container=("bash", "-c", once, "task")), poll_seconds=0.2, settle_seconds=2.0
    )
    try:
        shard_corpus(CORPUS, folder / "array", EIGHT_TASKS, engine)
    except OSError as error:
        told = str(error)
    else:
        told = "nothing"
    expect("1 scan tasks failed; scan task 3: " in told, f"the driver said {told}")
    there = shard_corpus(CORPUS, folder / "array", EIGHT_TASKS, engine)
    expect(there.digest == here.digest, f"digest {there.digest}, locally {here.digest}")
    arrays = _arrays(ground, "shard-scan-")
    expect(arrays == [[0, 1, 2, 3, 4, 5, 6, 7], [3]], f"arrays of the scan: {arrays}")
    return Seen(
        times=1,
        seen="named by the driver; given again, it alone is done; digest of the local pool",
        steps_lost=[],
    )


def second_submissions(ground: ClusterGround) -> Seen:
    """A run that a job pretrains is submitted again: by the command, and past it by the script."""
    job = PretrainJob(ground, "twice")
    job.until_steps(BEFORE)
    submit_second_jobs(job)
    job.ends()
    return Seen(
        times=2,
        seen=f"exit {EXIT_REFUSED}, the job named, before sbatch and by the lock; the first same",
        steps_lost=job.is_as_undisturbed(starts=1),
    )


def submit_second_jobs(job: PretrainJob) -> None:
    """By the command and by the script, while the first one runs: both are refused."""
    first, rank = job.job_id, job.rank(1)
    os.kill(rank, signal.SIGSTOP)  # so that it is still there, however long the others take
    before = (job.run / "config.json").read_bytes()
    again = ["pretrain", "--config", str(job.run / "config.json"), "--resume", "--ranks", "7"]
    said = _refused(*again)
    expect(f"job {job.job_id} (pretrain-{job.run.name}) pretrains it already" in said, said)
    expect((job.run / "config.json").read_bytes() == before, "the configuration has changed")
    job.submit_script()
    job.ends("FAILED")
    expect((code := job.exit_code()) == EXIT_REFUSED, f"the second job's exit code is {code}")
    told = [line for line in job.refusals() if "is in use by process" in line]
    expect(len(told) == 1 and f"Slurm job {first}" in told[0], f"it was said: {told}")
    job.job_id = first
    os.kill(rank, signal.SIGCONT)


def mistakes(ground: ClusterGround) -> Seen:
    """What a user may get wrong, and the corrected command after it."""
    folder = ground.ground.folder
    new = ["pretrain", "demo", "--cluster", "slurm", "--pretrain.data.shards"]
    new += [str(ground.ground.shards), "--run"]
    run = folder / "mistakes"
    wrong = {
        "Invalid partition name specified (asked for slurm.partition nowhere": [
            "partition=nowhere"
        ],
        "Invalid account or account/partition combination": ["partition=paid", "account=nobody"],
        "Invalid generic resource (gres) specification": ["gpus-per-node=8"],
    }
    said = []
    for words, options in wrong.items():
        said.append(_refused(*new, str(run), *(f"--slurm.{option}" for option in options)))
        expect(words in said[-1], said[-1])
        expect(not (run / "config.json").exists(), "the folder is claimed although it was refused")
    with small_disk(folder / "read-only") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        said.append(_refused(*new, str(disk / "run")))
        expect(str(disk / "run") in said[-1], said[-1])
    corrected = _triptych(*new, str(run))
    expect(corrected.returncode == 0, f"the corrected command: {corrected.stderr}")
    job_id = corrected.stdout.split()[1]
    ground.cluster.run("scancel", job_id)
    ground.cluster.wait_for_job(job_id)
    return Seen(
        times=len(said),
        seen=f"one line each, exit {EXIT_REFUSED}; the corrected command is taken",
        steps_lost=[],
    )


def _refused(*words: str) -> str:
    """What the command line says where it refuses: one line."""
    answer = _triptych(*words)
    expect(answer.returncode == EXIT_REFUSED, f"exit {answer.returncode}: {answer.stderr[-400:]}")
    lines = answer.stderr.splitlines()
    expect(len(lines) == 1 and lines[0].startswith("triptych: "), f"it said {answer.stderr[-400:]}")
    return lines[0]


def _triptych(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch", *words]
    top = Path(__file__).parents[1]
    return subprocess.run(command, cwd=top, capture_output=True, text=True, check=False)


def _arrays(ground: ClusterGround, name: str) -> list[list[int]]:
    """Elements of the arrays whose names begin so, array by array."""
    shown = ground.cluster.run("scontrol", "--oneliner", "show", "jobs").splitlines()
    jobs = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in shown]
    found: dict[int, list[int]] = {}
    for job in jobs:
        if job["JobName"].startswith(name):
            element = int(job["ArrayTaskId"])
            found.setdefault(int(job["ArrayJobId"]), []).append(element)
    return [sorted(elements) for _, elements in sorted(found.items())]
