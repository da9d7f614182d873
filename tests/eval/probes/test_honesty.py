"""What could make a score look better than it is: copies, contamination, one-sided predictions."""

import dataclasses
import json

import numpy as np
import pytest

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.manifest import ShardSet
from eval.importers import TableConfig, import_table
from eval.importers.sample_topics import sample_topics_card
from eval.probes.arms import probe_arms
from eval.probes.contamination import find_contamination
from eval.probes.contents import copies_across, marks_of_samples, refuse_copies, without_copies
from eval.probes.equal_words import splits_as_read
from eval.probes.findings import findings
from eval.probes.knn import OnlineKnn
from eval.probes.probe import ProbeConfig, probe
from eval.probes.problems import task_splits
from eval.samples import read_samples
from eval.splits import Split, SplitConfig
from eval.tasks import Task
from pretrain.models import Backbone
from tiny_corpus import write_image, write_rows
from tiny_tasks import SAID, write_intensities, write_sayings

TEXT = ProbeConfig(
    splits=SplitConfig(num_splits=2), num_random_backbones=1, representations=("text",)
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, checkpoint):
    """Eight rows; the pictures of rows 0 and 6 are equal, and the long words of 1 and 7."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["id,text,image,mood,place"]
    for number in range(8):
        write_image(folder / f"{number}.png", 0 if number == 6 else number)
        words = "the very same words once more" if number in (1, 7) else f"row {number}"
        picture = "" if number in (1, 7) else f"{number}.png"
        lines.append(f"r{number},{words},{picture},{'good' if number % 2 else 'bad'},p{number}")
    (folder / "table.csv").write_text("\n".join(lines))
    config = TableConfig(label="mood", group="place", name="pictures")
    task = import_table(folder / "table.csv", folder / "task", config)
    samples, _ = read_samples(Backbone.load(checkpoint.backbone), task, 4, {})
    return task, samples


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


SPLIT = Split(train=rows(0, 1, 2, 3), validation=rows(4, 5), test=rows(6, 7))


def test_copies_on_two_sides_of_a_split_are_refused_and_listed(pictures):
    task, samples = pictures
    marks = marks_of_samples(task.parts, samples)
    with pytest.raises(ValueError, match=r"2 pairs.*text of 'r1' \(train\) and 'r7' \(test\)"):
        refuse_copies([SPLIT], marks, samples)
    with pytest.raises(ValueError, match=r"image of 'r0' \(train\) and 'r6' \(test\)"):
        refuse_copies([SPLIT, SPLIT], marks, samples)


def test_copies_within_one_part_do_no_harm(pictures):
    task, samples = pictures
    split = Split(train=rows(0, 1, 6, 7), validation=rows(2, 3), test=rows(4, 5))
    refuse_copies([split], marks_of_samples(task.parts, samples), samples)


def test_clips_of_a_cut_video_are_no_group_but_are_resampled_together(checkpoint, tmp_path):
    task = write_intensities(tmp_path, more=({
        "id": "cut", "text": "a plain thing of video four it was", "joy": 0, "part": "train",
        "video": "v4",
    },), cuts="none")  # fmt: skip
    assert task.card.group_key is None
    samples, _ = read_samples(Backbone.load(checkpoint.backbone), task, 64, {})
    assert samples.fixed.test_units == ("v4",) * 7 + ("v9",) * 7
    assert samples.groups == samples.ids
    report = probe(checkpoint, task, TEXT)
    assert "resampled metadata.group, which the parts may cut" in report.protocol["interval"]


def test_copies_may_be_left_out_of_the_earlier_part(pictures):
    task, samples = pictures
    (made,), lost = without_copies([SPLIT], marks_of_samples(task.parts, samples), samples)
    assert (made.train.tolist(), lost) == ([2, 3], 2)
    assert made.test.tolist() == SPLIT.test.tolist()


def test_a_sentence_beside_other_sound_or_pictures_is_no_copy(pictures):
    task, samples = pictures
    marks = marks_of_samples(task.parts, samples)
    everything = np.ones_like(samples.present)
    assert {copy.modality for copy in copies_across(SPLIT, marks, everything)} == {"image"}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """60 rows of one picture each; every sixth says the same sentence, of either class."""
    return write_sayings(tmp_path_factory.mktemp("said"), 60, lambda number: number % 6 < 2)


def all_rows(samples):
    return np.ones(len(samples.ids), dtype=bool)


def test_equal_words_beside_other_pictures_are_copies_for_text_alone(said, checkpoint):
    samples, _ = read_samples(Backbone.load(checkpoint.backbone), said, 64, {})
    split = Split(
        train=rows(*range(40)), validation=rows(*range(40, 50)), test=rows(*range(50, 60))
    )
    names = ("text", "fused_text", "image", "fused", "fused_text_image")
    used = {name: all_rows(samples) for name in names}
    made = splits_as_read(said, samples, [split], used, "drop")
    same = [row for row in range(50) if samples.texts[row] == SAID]
    for name in ("text", "fused_text"):
        (kept,) = made[name].splits
        assert not set(same) & {*kept.train, *kept.validation}
        assert len(kept.train) + len(kept.validation) == 50 - len(same)
        np.testing.assert_array_equal(kept.test, split.test)
        assert made[name].told.startswith(f"{len(same)} samples whose words a later part repeats")
    for name in ("image", "fused", "fused_text_image"):
        (kept,) = made[name].splits
        np.testing.assert_array_equal(kept.train, split.train)
        assert made[name].told is None


def test_a_set_that_repeats_sentences_is_probed_and_the_report_tells_of_them(said, checkpoint):
    config = dataclasses.replace(TEXT, representations=("text", "image"))
    report = probe(checkpoint, said, config)
    (told,) = [found for found in report.findings if "have words that" in found]
    samples, _ = read_samples(Backbone.load(checkpoint.backbone), said, 64, {})
    says = np.array(samples.texts) == SAID
    share = np.mean([says[split.test].mean() for split in task_splits(samples, config.splits)])
    assert told.startswith(f"text: {100 * share:.1f} % of the test samples")
    dropped = probe(checkpoint, said, dataclasses.replace(config, copies="drop"))
    words = [found for found in dropped.findings if found.startswith("text: ")]
    assert any("samples whose words a later part repeats" in found for found in words)
    sizes = [part.subsets[name].split_sizes[0]["train"]
             for part in (report, dropped) for name in ("text", "image")]  # fmt: skip
    assert sizes[2] < sizes[0] == sizes[1] == sizes[3]


def test_where_every_sentence_is_repeated_text_is_missing_with_its_reason(checkpoint, tmp_path):
    task = write_sayings(tmp_path, 16, lambda _: True)
    config = dataclasses.replace(TEXT, representations=("text", "image"), copies="drop")
    report = probe(checkpoint, task, config)
    assert set(report.subsets) == {"image"}
    assert "too little is left to learn from" in report.missing["text"]
    with pytest.raises(ValueError, match=r"task said: text: without equal words too little"):
        probe_arms({"own": Backbone.load(checkpoint.backbone)}, task, config)


def test_short_texts_repeat_by_themselves(pictures):
    task, samples = pictures
    assert marks_of_samples(task.parts, samples)["text"].astype(bool).sum() == 2


def test_a_task_with_copies_is_not_probed_unless_they_are_dropped(checkpoint, tmp_path):
    words = "a great film it was, said person number 6"  # that of a training row
    more = {"id": "again", "text": words, "joy": 3, "part": "test", "video": "v99"}
    task = write_intensities(tmp_path, more=(more,), cuts="none")
    with pytest.raises(ValueError, match=r"text of 'r6' \(train\) and 'again' \(test\)"):
        probe(checkpoint, task, TEXT)
    report = probe(checkpoint, task, dataclasses.replace(TEXT, copies="drop"))
    assert "1 samples that a later part repeats were left out" in "\n".join(report.findings)
    assert report.protocol["copies"] == "drop"


def test_test_samples_that_pretraining_has_seen_are_counted_and_named(checkpoint, sample_shards):
    card = dataclasses.replace(sample_topics_card(), split="train", learn_split=None)
    seen = Task(card=card, folder=sample_shards, shards=ShardSet.open(sample_shards, "train"))
    samples, _ = read_samples(Backbone.load(checkpoint.backbone), seen, 64, {})
    found = find_contamination(checkpoint, seen, samples)
    assert found["num_seen"] == found["num_tested"] == len(samples.ids)
    assert found["seen_by_modality"]["image"] > 0
    assert set(found["some_seen"]) <= set(samples.ids)
    assert str(sample_shards) not in str(found)


def test_content_that_pretraining_has_as_an_alternative_is_seen(checkpoint, pictures, tmp_path):
    task, samples = pictures
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, number in (("own", 90), ("other", 3)):  # picture 3 is that of row 3
        write_image(folder / f"{name}.png", number)
    words = ["quite another sentence than all others", "the very same words once more"]
    row = {"id": "many", "text": words, "image": ["own.png", "other.png"]}
    write_rows(folder, [row])
    shard_corpus(folder, tmp_path / "shards", ShardingConfig())
    config = {"data": {"shards": str(tmp_path / "shards"), "split": "train"}}
    found = find_contamination(with_config(checkpoint, tmp_path / "run", config), task, samples)
    assert found["seen_by_modality"] == {"text": 2, "image": 1, "audio": 0}
    assert found["some_seen"] == ["r1", "r3", "r7"]


def with_config(checkpoint, run, config):
    """The checkpoint as one of another run, whose configuration this is."""
    folder = run / "checkpoints" / checkpoint.folder.name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return dataclasses.replace(checkpoint, folder=folder)


def test_unseen_pictures_are_told_apart_from_shards_that_cannot_be_read(
    checkpoint, few_topics, tmp_path
):
    samples, _ = read_samples(Backbone.load(checkpoint.backbone), few_topics, 64, {})
    found = find_contamination(checkpoint, few_topics, samples)
    assert found["checked"] is True
    assert found["seen_by_modality"]["image"] == 0
    gone = with_config(checkpoint, tmp_path, {"data": {"shards": "/no/such/place"}})
    lost = find_contamination(gone, few_topics, samples)
    assert lost == {
        "checked": False,
        "reason": "the pretraining shards cannot be read any more (ShardError)",
    }
    assert "is not known" in findings({}, (), lost, 0, {})[0]


def test_altered_pretraining_shards_are_not_taken_for_those_that_were_read(
    checkpoint, few_topics, tmp_path
):
    (tmp_path / "data.json").write_text(json.dumps({"sets": [{"digest": "0" * 64}]}))
    moved = with_config(checkpoint, tmp_path, checkpoint.config)
    samples, _ = read_samples(Backbone.load(checkpoint.backbone), few_topics, 64, {})
    assert "altered" in find_contamination(moved, few_topics, samples)["reason"]


def test_a_probe_that_fell_on_one_class_is_called_so(make_report):
    part = make_report().subsets["text"]
    clean = {"checked": True, "num_seen": 0}
    assert findings({"text": part}, ("a", "b", "c"), clean, 0, {}) == ()
    fallen = dataclasses.replace(part.pretrained, confusion=((0, 50, 0), (0, 40, 1), (0, 9, 0)))
    told = findings({"text": dataclasses.replace(part, pretrained=fallen)}, "abc", clean, 0, {})
    assert "99 % of the predictions are 'b'" in told[0]


def test_fits_that_did_not_converge_and_absent_classes_are_told(make_report):
    part = make_report().subsets["text"]
    worse = dataclasses.replace(
        part,
        pretrained=dataclasses.replace(part.pretrained, num_unconverged_fits=3),
        classes_absent_from_test=(("town",), ()),
    )
    clean = {"checked": True, "num_seen": 2, "num_tested": 9}
    seen = clean | {"seen_by_modality": {"text": 0, "image": 2, "audio": 0}}
    told = "\n".join(findings({"text": worse}, ("animals", "food", "town"), seen, 0, {}))
    assert "3 fits stopped at the bound" in told
    assert "some test part lacks town" in told
    assert "has seen content of 2 of 9 test samples (image 2)" in told


def test_a_label_that_is_no_number_is_refused_when_it_is_read(checkpoint, tmp_path):
    task = write_intensities(tmp_path)
    narrow = dataclasses.replace(task.card, label_range=(-1.0, 1.0))
    with pytest.raises(ValueError, match=r"label '-3\.0', which is no number within"):
        probe(checkpoint, dataclasses.replace(task, card=narrow), TEXT)


def test_online_knn_refuses_numbers(tmp_path):
    with pytest.raises(ValueError, match="online kNN scores classes"):
        OnlineKnn(write_intensities(tmp_path))
