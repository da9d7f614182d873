"""Submitting a run: once, and without a trace where Slurm refuses. With Slurm as shell scripts."""

import os
from dataclasses import replace

import pytest

from launch.cluster import ClusterConfig, SubmissionError
from launch.run_config import load_run_config
from launch.start import submit_run
from tiny import tiny_run


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Fake programs on PATH: sbatch takes a job as number 41, squeue shows what `queue` holds."""
    folder = tmp_path / "bin"
    folder.mkdir()
    write_program(folder, "srun", "exit 1")
    write_program(folder, "sbatch", "echo 'Submitted batch job 41'")
    write_program(folder, "squeue", f"cat {folder}/queue")
    (folder / "queue").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def write_program(folder, name, text):
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def config(tmp_path, sample_shards):
    config = tiny_run(tmp_path / "run", sample_shards)
    return replace(config, cluster="slurm", slurm=ClusterConfig(partition="gpu"))


def test_a_run_whose_job_is_queued_is_not_submitted_again_nor_changed(slurm, config):
    submit_run(config, resume=False)
    jobs = {
        "PENDING|Priority|0:00|1:00:00|": "PENDING; wait",
        "RUNNING|None|5:00|55:00|n1": "RUNNING on n1; wait",
    }
    for job, told in jobs.items():
        (slurm / "queue").write_text(f"41|{job}|pretrain-run\n")
        message = rf"job 41 \(pretrain-run\) pretrains it already: {told}.*`triptych cancel "
        with pytest.raises(ValueError, match=message):
            submit_run(replace(config, ranks=7), resume=True)
        assert load_run_config(config.run).ranks == 1


def test_a_run_whose_folder_s_name_parts_fields_is_refused_a_second_job(slurm, config):
    config = replace(config, run=config.run.with_name("a|b"))
    submit_run(config, resume=False)
    (slurm / "queue").write_text("41|RUNNING|None|5:00|55:00|n1|pretrain-a|b\n")
    with pytest.raises(ValueError, match=r"job 41 \(pretrain-a\|b\) pretrains it already"):
        submit_run(config, resume=True)


def test_a_job_of_another_name_is_not_the_run_s_though_it_has_its_number(slurm, config):
    submit_run(config, resume=False)
    (slurm / "queue").write_text("41|RUNNING|None|5:00|55:00|n1|shard-scan-0\n")
    with pytest.raises(ValueError, match="no checkpoint to resume from"):
        submit_run(config, resume=True)


def test_a_run_that_slurm_refuses_leaves_its_folder_to_the_corrected_command(slurm, config):
    sbatch = (slurm / "sbatch").read_text()
    write_program(slurm, "sbatch", "echo 'sbatch: error: Invalid partition' >&2; exit 1")
    message = r"pretrain-run: .*Invalid partition \(asked for slurm.partition gpu, slurm.nodes 1\)"
    with pytest.raises(SubmissionError, match=message):
        submit_run(config, resume=False)
    assert not (config.run / "config.json").exists()
    (slurm / "sbatch").write_text(sbatch)
    before = replace(config, slurm=ClusterConfig(partition="cpu"))
    assert submit_run(before, resume=False).job_id == "41"
    write_program(slurm, "sbatch", "exit 1")
    with pytest.raises(SubmissionError):
        submit_run(config, resume=False, fresh=True)
    assert load_run_config(config.run).slurm.partition == "cpu"
