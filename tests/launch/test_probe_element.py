import json

import pytest

from launch.cluster import ClusterConfig
from launch.probes.element import probe_pinned, task_of_element
from launch.probes.states import probe_states, read_probe_settings, report_path
from pretrain.checkpoint import CheckpointError, Marker, Progress, open_checkpoint

TASKS = ("topics", "moods")


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "run" / "checkpoints" / "step-00000100"
    folder.mkdir(parents=True)
    marker = Marker(progress=Progress(100, 3200), world_size=2, versions={}, files={})
    (folder / "COMPLETE").write_text(marker.to_text())
    return open_checkpoint(folder)


def test_a_task_is_known_by_its_card_not_by_its_folder(checkpoint, tmp_path):
    task = tmp_path / "version-2"
    task.mkdir()
    (task / "task.json").write_text(json.dumps({"name": "topics"}))
    report = report_path(checkpoint, "topics")
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"checkpoint": {"digest": checkpoint.digest}}))
    [probe] = probe_states([checkpoint], [str(task)], [])
    assert probe.state == "reported"
    assert probe.place == "step-00000100 on topics"


def test_the_probes_settings_are_those_of_the_run(tmp_path):
    config = {"probe_tasks": TASKS, "slurm": {"gpus_per_node": 8}, "pretrain": {"total_steps": 300}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = read_probe_settings(tmp_path)
    assert settings.tasks == TASKS
    assert settings.cluster == ClusterConfig(gpus_per_node=8)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="no run configuration"):
        read_probe_settings(tmp_path)


def test_an_element_probes_no_other_weights_than_it_was_submitted_for(checkpoint):
    with pytest.raises(CheckpointError, match="holds other weights"):
        probe_pinned(checkpoint.folder, "0" * 64, "topics")
    assert not report_path(checkpoint, "topics").exists()


def test_an_element_without_a_number_says_how_to_start_it():
    assert task_of_element(TASKS, "1") == "moods"
    for element in (None, "2", "x"):
        with pytest.raises(ValueError, match="--array=0-1"):
            task_of_element(TASKS, element)
