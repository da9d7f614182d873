"""What a user who errs is told: one line, exit code 2, nothing written."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from launch.__main__ import main
from launch.commands import COMMANDS
from launch.preemption import EXIT_CODES
from launch.run_config import prepare_run
from pretrain.checkpoint import Progress
from pretrain.config import config_to_json
from tiny import tiny_run, write_checkpoint


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_help_shows_every_command_and_a_whole_run(capsys):
    main(["--help"])
    text = capsys.readouterr().out
    for word in ("shard", "stats", "pretrain", "probe", "publish", "report", "demo"):
        assert f"  {word}" in text


def test_an_unknown_command_is_refused_with_a_suggestion(capsys):
    assert "did you mean pretrain?" in refused(capsys, "pretrian")


def test_an_unknown_recipe_is_refused_with_a_suggestion(capsys):
    assert "did you mean demo?" in refused(capsys, "pretrain", "demmo")


def test_an_unknown_option_is_refused_with_a_suggestion(capsys):
    error = refused(capsys, "pretrain", "demo", "--pretrain.ema.base-tua", "0.9")
    assert "base-tau" in error


def test_a_wrong_value_is_refused_by_the_name_of_its_option(capsys, tmp_path):
    error = refused(
        capsys, "pretrain", "demo", "--run", tmp_path / "run", "--pretrain.ema.base-tau", "1.5"
    )
    assert "base_tau" in error
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_shard_set_is_refused(capsys, tmp_path):
    error = refused(
        capsys, "pretrain", "demo", "--run", tmp_path / "run", "--pretrain.data.shards", tmp_path
    )
    assert str(tmp_path) in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_ranks_do_not_divide_is_refused(capsys, tmp_path, sample_shards):
    error = refused(
        capsys, "pretrain", "demo", "--run", tmp_path / "run", "--ranks", "3",
        "--pretrain.data.shards", sample_shards, "--pretrain.batch.global-samples", "64",
    )  # fmt: skip
    assert "63 and 66" in error
    assert not (tmp_path / "run").exists()


def test_a_run_folder_is_never_started_over(capsys, tmp_path, sample_shards):
    prepare_run(tiny_run(tmp_path / "run", sample_shards), resume=False)
    error = refused(capsys, "pretrain", "--config", tmp_path / "run" / "config.json")
    assert "--resume" in error


def test_changed_options_are_refused_on_resume_one_a_line_but_for_those_allowed(
    capsys, tmp_path, sample_shards
):
    config = tiny_run(tmp_path / "run", sample_shards)
    # What was allowed to the start before this one is not allowed to this one.
    prepare_run(replace(config, allow_drift=("pretrain.seed",)), resume=False)
    text = json.dumps(config_to_json(config.pretrain))
    write_checkpoint(
        config.run, Progress(1, 16), lambda folder: (folder / "config.json").write_text(text)
    )
    changed = [
        "pretrain", "--config", tmp_path / "run" / "config.json", "--resume", "--ranks", "2",
        "--pretrain.seed", "1", "--pretrain.total-steps", "80", "--pretrain.optim.momentum", "0.5",
    ]  # fmt: skip
    lines = refused(capsys, *changed).splitlines()
    assert [line.strip() for line in lines[1:-1]] == [
        "pretrain.optim.momentum: 0.9 -> 0.5",
        "pretrain.seed: 0 -> 1",
        "pretrain.total_steps: 40 -> 80",
    ]
    allow = ["--allow-drift", "pretrain.seed", "--allow-drift", "pretrain.optim"]
    lines = refused(capsys, *changed, *allow).splitlines()
    assert [line.strip() for line in lines[1:-1]] == ["pretrain.total_steps: 40 -> 80"]
    assert "did you mean pretrain.seed?" in refused(
        capsys, *changed, "--allow-drift", "pretrain.sed"
    )
    assert "give one of them" in refused(capsys, *changed, "--fresh")


def test_help_of_pretrain_tells_what_each_exit_code_says(capsys):
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    text = capsys.readouterr().out
    assert all(f"\n{code}: " in text for code in EXIT_CODES)


def test_a_folder_without_complete_is_no_checkpoint(capsys, tmp_path):
    assert "COMPLETE" in refused(capsys, "probe", tmp_path, "sample-topics")


def test_options_that_a_clusters_probe_would_lose_are_refused(capsys, tmp_path):
    asked = ("--cluster", "slurm", "--splits.num-splits", "30", "--rows", "shared")
    told = refused(capsys, "probe", tmp_path, "sample-topics", *asked)
    assert "--splits, --rows would be lost" in told
    assert "--cluster inline" in told
    assert "COMPLETE" in refused(capsys, "probe", tmp_path, "sample-topics", *asked[:2])


def test_publishing_asks_for_a_licence(capsys, tmp_path):
    assert "licence" in refused(capsys, "publish", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_what_it_takes(name, capsys):
    try:
        code = COMMANDS[name](["--help"])
    except SystemExit as ended:
        code = ended.code
    assert code == 0
    assert f"triptych {name}" in capsys.readouterr().out


def test_the_command_line_does_not_wait_for_what_few_commands_need():
    heavy = ("deepspeed", "torchvision", "transformers", "torch._dynamo")
    script = (
        f"import launch.commands, sys; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
