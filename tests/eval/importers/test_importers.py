"""Labelled sets in the layouts that their authors distribute, on small folders made here."""

import csv
import json
import sys
import tarfile

import pytest

from eval.importers import IMPORTERS, ImportOptions, import_set
from eval.importers.media import VideoReader
from eval.importers.meld import mend_windows_characters
from eval.importers.video_sets import import_video_set
from tiny_corpus import write_image, write_tone

COLUMNS = ("video_id", "clip_id", "text", "label", "label_T", "label_A", "label_V")
COLUMNS += ("annotation", "mode")


def write_table(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def write_video_set(folder, labels=(-0.4, 0.0, 0.8, 1.0, -1.0, 0.2), mode_of=None, media=True):
    """Three videos of two clips; by default a video is in one part."""
    modes = mode_of or ("train", "train", "valid", "valid", "test", "test")
    rows = []
    for number, label in enumerate(labels):
        video, clip = f"video_{number // 2:04d}", f"{number % 2 + 1:04d}"
        words = f"clip {number} says something"
        rows.append((video, clip, words, label, "", "", "", "Neutral", modes[number]))
        if media:
            frames = folder / "Processed" / "video" / "Frames" / video / clip
            frames.mkdir(parents=True)
            for frame in range(3):
                write_image(frames / f"{frame + 1:04d}.png", 10 * number + frame)
            sound = folder / "Processed" / "audio" / video / f"{clip}.wav"
            sound.parent.mkdir(parents=True, exist_ok=True)
            write_tone(sound, number)
    write_table(folder / "label.csv", COLUMNS, rows)
    return folder


def labels_of(task, key):
    """By sample id, from the shards' own JSON members."""
    found = {}
    for tar in sorted(task.folder.glob("*.tar")):
        with tarfile.open(tar) as archive:
            for member in archive.getmembers():
                if member.name.endswith(".json"):
                    record = json.load(archive.extractfile(member))
                    found[record["id"]] = record["labels"][key]
    return found


def test_a_video_set_keeps_its_authors_parts_frames_and_sound(tmp_path):
    task = import_set("ch-sims", write_video_set(tmp_path / "SIMS"), tmp_path / "task")
    card = task.card
    assert (card.label_range, card.class_cuts, card.metric) == ((-1.0, 1.0), "sims", "mae")
    assert card.fixed_parts == ("train", "validation", "test")
    assert [part.num_samples for part in task.parts] == [2, 2, 2]
    assert card.group_key == "group"
    assert task.shards.present == {"text": 6, "image": 6, "audio": 6}
    assert "differs from the published set: 6 rows where 2281 were published" in card.notes
    assert "train: 2 of 1368 published rows" in card.notes
    values = labels_of(task, "sentiment")
    assert values["video_0001/0001"] == "0.8"


def test_authors_parts_that_cut_videos_are_kept_and_said(tmp_path):
    modes = ("train", "test", "train", "valid", "test", "test")
    folder = write_video_set(tmp_path / "SIMS", mode_of=modes, media=False)
    task = import_set("ch-sims", folder, tmp_path / "task")
    assert task.card.group_key is None
    assert any("cut 2 of 3 videos" in note for note in task.card.notes)
    other = import_set("ch-sims", folder, tmp_path / "other", ImportOptions(parts="groups"))
    assert other.card.fixed_parts is None
    assert other.card.group_key == "group"
    assert other.card.modalities == ("text",)


def test_a_missing_part_is_named_and_nothing_is_written(tmp_path):
    modes = ("train", "train", "train", "train", "valid", "valid")
    folder = write_video_set(tmp_path / "MOSI", mode_of=modes, media=False)
    with pytest.raises(ValueError, match=r"authors' test part; --parts groups"):
        import_set("mosi", folder, tmp_path / "task")
    assert not (tmp_path / "task").exists()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ((0.1, 0.2, "much", 0.0, 0.1, 0.2), r"line 4: label 'much' is no number"),
        ((0.1, 0.2, 0.3, "nan", 0.1, 0.2), r"line 5: label 'nan' is no number within"),
        ((0.1, 0.2, 0.3, 1.2, 0.1, 0.2), r"line 5: label '1.2' is no number within \(-1.0, 1.0\)"),
    ],
)
def test_a_label_that_is_no_intensity_is_named_with_its_line(tmp_path, labels, words):
    folder = write_video_set(tmp_path / "SIMS", labels=labels, media=False)
    with pytest.raises(ValueError, match=words):
        import_set("ch-sims", folder, tmp_path / "task")


def test_videos_without_ffmpeg_are_refused_with_what_to_type(tmp_path, monkeypatch):
    folder = write_video_set(tmp_path / "SIMS", media=False)
    clip = folder / "Raw" / "video_0000" / "0001.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"video")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"ffmpeg -i CLIP\.mp4 -vn"):
        import_set("ch-sims", folder, tmp_path / "task")
    words = import_set("ch-sims", folder, tmp_path / "words", ImportOptions(text_only=True))
    assert words.card.modalities == ("text",)


def test_what_a_video_lacks_is_taken_out_by_ffmpeg(tmp_path):
    folder = write_video_set(tmp_path / "SIMS", media=False)
    clip = folder / "Raw" / "video_0000" / "0001.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"video")
    write_tone(tmp_path / "made.wav", 3)
    fake = tmp_path / "ffmpeg"
    fake.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"if '-vn' in sys.argv: shutil.copyfile({str(tmp_path / 'made.wav')!r}, sys.argv[-1])\n"
    )
    fake.chmod(0o755)
    reader = VideoReader(tmp_path / "scratch", program=str(fake))
    task = import_video_set("ch-sims", folder, tmp_path / "task", "authors", reader=reader)
    assert task.shards.present == {"text": 6, "audio": 1}
    assert "rows without a picture: 6" in task.card.notes
    assert "rows without sound: 5" in task.card.notes


FFMPEG = """#!{python}
import sys
out = sys.argv[-1]
if out.endswith(".jpg"):
    print("[out#0/image2 @ 0x5f] Output file does not contain any stream", file=sys.stderr)
else:
    open(out, "wb").write(b"RIFF, and no more")
    print("[mov @ 0x55c0ffee] " + sys.argv[sys.argv.index("-i") + 1] + ": moov atom not found",
          "second line", sep="\\n", file=sys.stderr)
sys.exit(1)
"""


def test_what_ffmpeg_fails_on_is_not_taken_and_its_first_word_is_in_the_card(tmp_path):
    folder = write_video_set(tmp_path / "SIMS", media=False)
    for number in (1, 2):
        clip = folder / "Raw" / "video_0000" / f"{number:04d}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(b"video")
    fake = tmp_path / "ffmpeg"
    fake.write_text(FFMPEG.format(python=sys.executable))
    fake.chmod(0o755)
    reader = VideoReader(tmp_path / "scratch", program=str(fake))
    task = import_video_set("ch-sims", folder, tmp_path / "task", "authors", reader=reader)
    assert task.shards.present == {"text": 6}
    assert not list((tmp_path / "scratch").iterdir())
    (told,) = (note for note in task.card.notes if "ffmpeg failed" in note)
    assert told == (
        "pictures or sound that ffmpeg failed to take out: 2 (the first: 0001.mp4: [mov] 0001.mp4: "
        "moov atom not found)"
    )


def test_a_table_without_the_sets_columns_names_them(tmp_path):
    write_table(tmp_path / "MOSI" / "label.csv", ("video_id", "words"), [("a", "b")])
    with pytest.raises(ValueError, match=r"lacks the columns clip_id, text, label, mode"):
        import_set("mosi", tmp_path / "MOSI", tmp_path / "task")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"0 files are called label\.csv or meta\.csv"):
        import_set("mosi", tmp_path / "empty", tmp_path / "task")


MELD_COLUMNS = ("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID")
MELD_COLUMNS += ("Utterance_ID", "Season", "Episode", "StartTime", "EndTime")
MELD_ROWS = (
    (1, "Oh my God, he\x92s lost it.", "Phoebe", "sadness", "negative", 0, 0, 4, 7, "", ""),
    (2, "What?", "Monica", "surprise", "negative", 0, 1, 4, 7, "", ""),
    (3, "I am the man!", "Ross", "joy", "positive", 1, 0, 4, 7, "", ""),
    (4, "Or, we could go to the bank.", "Ross", "neutral", "neutral", 2, 0, 4, 7, "", ""),
)


def write_meld(folder, parts=("train", "dev", "test")):
    for part in parts:
        write_table(folder / f"{part}_sent_emo.csv", MELD_COLUMNS, MELD_ROWS)
    for place in ("train_splits", "dev_splits_complete", "output_repeated_splits_test"):
        (folder / place).mkdir()
        write_tone(folder / place / "dia0_utt1.wav", 4)
        write_image(folder / place / "dia0_utt1.jpg", 4)
    return folder


def test_meld_is_two_tasks_and_its_dialogues_are_counted_in_each_part_anew(tmp_path):
    folder = write_meld(tmp_path / "MELD.Raw")
    task = import_set("meld-emotion", folder, tmp_path / "emotion")
    assert task.card.classes[0] == "neutral"
    assert len(task.card.classes) == 7
    assert task.card.metric == "weighted_f1"
    assert [part.num_samples for part in task.parts] == [4, 4, 4]
    assert task.shards.present == {"text": 12, "image": 3, "audio": 3}
    notes = "\n".join(task.card.notes)
    assert "characters of Windows-1252 mended: 3" in notes
    assert "differs from the published set: 12 rows where 13708 were published" in notes
    assert labels_of(task, "emotion")["validation/dia0_utt0"] == "sadness"
    assert import_set("meld-sentiment", folder, tmp_path / "s").card.classes == (
        "positive",
        "neutral",
        "negative",
    )


def test_a_part_of_meld_is_split_by_dialogue_where_that_is_asked_for(tmp_path):
    folder = write_meld(tmp_path / "MELD.Raw", parts=("train",))
    with pytest.raises(ValueError, match=r"authors' validation and test part"):
        import_set("meld-sentiment", folder, tmp_path / "task")
    task = import_set("meld-sentiment", folder, tmp_path / "task", ImportOptions(parts="groups"))
    assert task.card.split_rule == "random splits; a dialogue lies on one side"


def test_control_characters_are_the_windows_ones_that_were_meant():
    assert mend_windows_characters("he\x92s \x85 gone") == ("he\u2019s \u2026 gone", True)
    assert mend_windows_characters("café") == ("café", False)


SPEECH = {
    "emodb": (("03a01Fa", "08b10Wb", "03a02Nc", "16b01Ta"), "happiness", 3),
    "ravdess": (
        ("03-01-06-01-02-01-12", "03-01-01-01-01-01-01", "03-01-03-02-01-02-24"),
        "fearful",
        3,
    ),
    "crema-d": (("1001_DFA_ANG_XX", "1002_IEO_SAD_LO", "1040_ITH_SAD_X"), "anger", 3),
}


@pytest.mark.parametrize("name", sorted(SPEECH))
def test_acted_speech_is_labelled_by_its_file_names(name, tmp_path):
    stems, first, speakers = SPEECH[name]
    for number, stem in enumerate(stems):
        place = tmp_path / "set" / f"folder-{number % 2}" / f"{stem}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_tone(place, number)
    write_tone(tmp_path / "set" / "02-01-06-01-02-01-12.wav", 9)  # RAVDESS: a video's sound
    task = import_set(name, tmp_path / "set", tmp_path / "task")
    assert labels_of(task, "emotion")[stems[0]] == first
    assert task.shards.num_samples == len(stems)
    notes = "\n".join(task.card.notes)
    assert "whose name is not of the set's speech: 1" in notes
    assert "differs from the published set" in notes
    assert f"speakers: {speakers}" in notes


def test_a_folder_of_other_recordings_is_refused_with_an_example(tmp_path):
    (tmp_path / "set").mkdir()
    write_tone(tmp_path / "set" / "hello.wav", 1)
    with pytest.raises(ValueError, match=r"called like wav/03a01Fa\.wav"):
        import_set("emodb", tmp_path / "set", tmp_path / "task")


def test_an_option_that_a_set_does_not_know_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--protocol: the set mosi leaves nothing"):
        import_set("mosi", tmp_path, tmp_path / "task", ImportOptions(protocol="agreeing"))
    with pytest.raises(ValueError, match=r"no set is called 'mossi'; there are mvsa-single"):
        import_set("mossi", tmp_path, tmp_path / "task")
    assert {"mosi", "mosei", "ch-sims", "sims-v2", "emodb", "ravdess", "crema-d"} <= set(IMPORTERS)
