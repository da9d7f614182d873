"""What follows from a collapse: the run saves, stops and says so; its weights stay at home."""

import pytest

from eval.release.publish import PublishConfig, publish
from launch.preemption import EXIT_COLLAPSED
from launch.run_config import RunConfig, prepare_run
from pretrain.checkpoint import open_checkpoint
from pretrain.health import HealthConfig, HealthThresholds, load_verdict
from tiny import tiny_pretrain, tiny_run
from warm_ranks import run_warm

# No embedding is spread as wide as this bound asks for: every run is found to be collapsed.
SICK = HealthConfig(
    grace_steps=4,
    patience=2,
    every_steps=2,
    thresholds=HealthThresholds(min_projection_std=2.0),
)


def test_a_collapsed_run_saves_stops_and_names_its_last_healthy_checkpoint(
    tmp_path, sample_shards, capfd
):
    run = tmp_path / "run"
    config = tiny_run(run, sample_shards, ranks=2, health=SICK, checkpoint_every_steps=4)
    prepare_run(config, resume=False)
    assert run_warm(run, 2) == EXIT_COLLAPSED
    output = capfd.readouterr()
    healthy = run / "checkpoints" / "step-00000004"
    assert f"The last healthy checkpoint: {healthy}" in output.err
    assert f"first move step-00000008 out of {run / 'checkpoints'}" in output.err
    assert output.err.count("stopped at step 8") == 1
    assert "has collapsed at the projector" in output.out
    newest = open_checkpoint(run)
    verdicts = [load_verdict(folder) for folder in (healthy, newest.folder)]
    assert [verdict.state for verdict in verdicts if verdict] == ["healthy", "collapsed"]
    with pytest.raises(ValueError, match="unfit to publish"):
        publish(newest, tmp_path / "out", PublishConfig(licence="apache-2.0"))

    # Started again, if on fewer ranks, it knows what was found and stops at its next step.
    assert run_warm(run, 1) == EXIT_COLLAPSED
    assert open_checkpoint(run).step == 9


def test_an_online_score_that_would_never_be_asked_is_refused(tmp_path, sample_shards):
    with pytest.raises(ValueError, match="evaluate_every_steps"):
        RunConfig(run=tmp_path, pretrain=tiny_pretrain(sample_shards), online_knn="sample-topics")
