"""`triptych task`: import, new and show."""

import json

import pytest

from launch.commands import COMMANDS
from launch.task_commands import task_command
from tiny_corpus import write_tone


@pytest.fixture
def speech(tmp_path):
    for number, stem in enumerate(("03a01Fa", "08b10Wb", "10a02Nc")):
        path = tmp_path / "EmoDB" / "wav" / f"{stem}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tone(path, number)
    return tmp_path / "EmoDB"


def test_a_set_is_imported_and_shown_in_the_same_words(speech, tmp_path, capsys):
    assert task_command(["import", "emodb", str(speech), str(tmp_path / "task")]) == 0
    told = capsys.readouterr().out
    assert "emotion: anger, boredom" in told
    assert "3 train" in told
    assert "differs from the published set: 3 rows where 535 were published" in told
    assert task_command(["show", str(tmp_path / "task")]) == 0
    assert capsys.readouterr().out == told


def test_a_table_of_numbers_becomes_a_regression_task(tmp_path, capsys):
    rows = [{"id": str(n), "text": f"text {n}", "joy": n - 2} for n in range(5)]
    table = tmp_path / "joy.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    options = ["--label", "joy", "--label-range", "-3", "3", "--cuts", "mosi", "--name", "joy"]
    assert task_command(["new", str(table), str(tmp_path / "task"), *options]) == 0
    told = capsys.readouterr().out
    assert "numbers from -3 to 3, classes by the rule 'mosi'" in told
    assert "mae" in told


def test_groups_that_the_authors_parts_cut_are_shown_so(tmp_path, capsys):
    lines = ["id,text,mood,part,video"]
    for number, part in enumerate(("train", "train", "train", "valid", "test", "test")):
        lines.append(f"{number},text {number},{'ab'[number % 2]},{part},v{number % 3}")
    (tmp_path / "own.csv").write_text("\n".join(lines))
    options = ["--label", "mood", "--parts", "part", "--group", "video", "--name", "own"]
    assert task_command(["new", str(tmp_path / "own.csv"), str(tmp_path / "task"), *options]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "groups cut by the authors' parts" in told
    assert "cut 3 of 3 videos" in told


def test_without_arguments_every_set_is_named(capsys):
    assert task_command([]) == 0
    told = capsys.readouterr().out
    for name in ("mvsa-multiple", "mosei", "sims-v2", "meld-emotion", "crema-d", "sample-topics"):
        assert name in told


@pytest.mark.parametrize("name", ["import", "new", "show"])
def test_help_teaches(name, capsys):
    with pytest.raises(SystemExit):
        task_command([name, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert {"import": "mvsa-multiple", "new": "--group speaker", "show": "built-in"}[name] in told


def test_another_word_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match="triptych task impot: there are import, new, show"):
        COMMANDS["task"](["impot"])
