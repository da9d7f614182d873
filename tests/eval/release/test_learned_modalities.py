"""A head knows which modalities its training samples had, and labels nothing that has none."""

import json
import shutil

import pytest

from eval.finetune import FineTuneConfig, TaskConfig, fine_tune_task, start_of
from eval.importers import TableConfig, import_table
from eval.probes.linear_probe import LinearProbeConfig
from eval.release.embed import ReadingConfig, Tally
from eval.release.head import fit_head, load_head
from eval.release.predict import predict
from eval.release.release_checks import write_checksums
from eval.splits import SplitConfig
from tiny_corpus import write_image
from tiny_tasks import write_few_topics


@pytest.fixture(scope="module")
def text_head(release, tmp_path_factory):
    """Its training samples are texts; a picture is in the authors' test part alone."""
    folder = tmp_path_factory.mktemp("text")
    write_image(folder / "p.png", 1)
    lines = ["id,text,image,mood,part"]
    for number in range(15):
        part = ("train", "train", "train", "valid", "test")[number % 5]
        mood = "good" if number % 2 else "bad"
        picture = "p.png" if number == 14 else ""
        lines.append(f"r{number},somebody said it on day {number},{picture},{mood},{part}")
    (folder / "table.csv").write_text("\n".join(lines))
    config = TableConfig(label="mood", name="moods", parts="part")
    task = import_table(folder / "table.csv", folder / "task", config)
    grid = LinearProbeConfig(inverse_regularisation=(1.0,))
    fit_head(release, task, folder / "head", grid)
    return folder / "head"


@pytest.fixture
def unseen(tmp_path):
    """A picture, the same with a text, and a text."""
    folder = tmp_path / "unseen"
    folder.mkdir()
    for name in ("a", "b"):
        write_image(folder / f"{name}.png", 1)
    for name in ("b", "c"):
        (folder / f"{name}.txt").write_text("a frog")
    return folder


def test_a_sample_with_nothing_that_the_head_learned_from_is_refused(text_head, unseen):
    assert load_head(text_head).learned == ("text",)
    told = r"a: has image alone; the head has learned from text; --skip-broken"
    with pytest.raises(ValueError, match=told):
        list(predict([str(unseen)], text_head, ReadingConfig(), Tally()))


def test_such_samples_can_be_left_out_and_are_named_and_counted(text_head, unseen, capsys):
    tally = Tally()
    records = list(predict([str(unseen)], text_head, ReadingConfig(skip_broken=True), tally))
    assert [record["id"] for record in records] == ["b", "c"]
    assert (tally.embedded, tally.skipped) == (2, 1)
    assert "a: has image alone" in capsys.readouterr().err


def test_a_head_that_does_not_tell_labels_whatever_it_is_given(text_head, unseen, tmp_path):
    older = shutil.copytree(text_head, tmp_path / "older")
    record = json.loads((older / "head.json").read_text())
    del record["modalities"]
    (older / "head.json").write_text(json.dumps(record))
    write_checksums(older)
    records = predict([str(unseen)], older, ReadingConfig(), Tally())
    assert [record["id"] for record in records] == ["a", "b", "c"]


def test_a_fine_tuned_head_knows_them_too(checkpoint, tmp_path):
    task = write_few_topics(tmp_path / "few", ("text", "image"))
    config = TaskConfig(
        representations=("fused",),
        splits=SplitConfig(num_splits=1),
        finetune=FineTuneConfig(epochs=1, device="cpu"),
    )
    fine_tune_task(start_of(checkpoint), task, config, tmp_path / "r.json", keep=tmp_path / "head")
    assert load_head(tmp_path / "head").learned == ("text", "image")
