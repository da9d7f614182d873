"""A start that is refused leaves the run folder free for the corrected command."""

from dataclasses import replace

import pytest

from launch.run_config import RunConfig
from launch.start import start_run
from tiny import tiny_run


@pytest.fixture
def run(tmp_path, sample_shards) -> RunConfig:
    return tiny_run(tmp_path / "run", sample_shards, evaluate_every_steps=10)


def test_a_task_that_is_none_is_refused_before_the_folder_is_claimed(run):
    with pytest.raises(ValueError, match="nosuch: neither a task folder"):
        start_run(replace(run, online_knn="nosuch"), resume=False)
    with pytest.raises(ValueError, match="nosuch: neither a task folder"):
        start_run(replace(run, probe_tasks=("nosuch",)), resume=False)
    assert not (run.run / "config.json").exists()
    start_run(run, resume=False)
    assert (run.run / "config.json").exists()
    assert (run.run / "views" / "views.json").exists()


def test_tasks_are_found_whatever_folder_the_ranks_start_in(run, tmp_path, monkeypatch):
    (tmp_path / "tasks" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    named = replace(run, online_knn="tasks/mine", probe_tasks=("sample-topics", "tasks/mine"))
    absolute = named.with_absolute_paths()
    assert absolute.online_knn == str(tmp_path / "tasks" / "mine")
    assert absolute.probe_tasks == ("sample-topics", str(tmp_path / "tasks" / "mine"))
