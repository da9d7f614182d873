"""MELD: utterances of a TV series, by sentiment (3 classes) or emotion (7 classes).

Layout: ``train_sent_emo.csv``, ``dev_sent_emo.csv``, ``test_sent_emo.csv`` with the columns
Utterance, Emotion, Sentiment, Dialogue_ID, Utterance_ID, and videos ``dia{D}_utt{U}.mp4`` in
``train_splits``, ``dev_splits_complete`` and ``output_repeated_splits_test``.
Checked against https://github.com/declare-lab/MELD (README).
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from eval.card import Task, TaskCard
from eval.importers.media import MediaTree, VideoReader, with_media
from eval.importers.parts import Parts, decide_parts
from eval.importers.rows import PARTS, Account, LabelledRow, build_task, table_lines

Target = Literal["sentiment", "emotion"]

CLASSES: dict[Target, tuple[str, ...]] = {
    "sentiment": ("positive", "neutral", "negative"),
    "emotion": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
}
COLUMNS = ("Utterance", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
TABLES = {"train": "train_sent_emo.csv", "validation": "dev_sent_emo.csv"} | {
    "test": "test_sent_emo.csv"
}
VIDEO_FOLDERS = {
    "train": ("train_splits", "train"),
    "validation": ("dev_splits_complete", "dev"),
    "test": ("output_repeated_splits_test", "test"),
}
PUBLISHED = {"train": 9_989, "validation": 1_109, "test": 2_610}


def import_meld(
    target: Target,
    folder: Path,
    out: Path,
    parts: Parts,
    text_only: bool = False,
    reader: VideoReader | None = None,
) -> Task:
    """Shard MELD and write its card.

    Args:
        target: Which label is probed; both are kept in the shards.
        folder: The unpacked set; read only.
        out: Task folder to create.
        parts: The authors' parts, or random ones that keep a dialogue whole.
        text_only: Leave pictures and sound out.
        reader: Takes media out of videos; None: by ffmpeg, if there is one.

    Raises:
        ValueError: Another layout, an unknown label, videos without ffmpeg, a missing part, or
            ``out`` exists and is not empty.
        data_sharding.schema.ShardError: The rows cannot be sharded.
    """
    tree, account = MediaTree(folder), Account(published=PUBLISHED)
    with tempfile.TemporaryDirectory(prefix="triptych-") as scratch:
        reader = reader or VideoReader(Path(scratch))
        rows: list[LabelledRow] = []
        for part in PARTS:
            for table in _table(tree, part, folder):
                rows += _rows(table, part, account)
        if not rows:
            raise ValueError(f"{folder}: none of {', '.join(TABLES.values())} is here")
        if not text_only:
            rows = [with_media(row, _places(row), tree, reader, account) for row in rows]
        decided = decide_parts(rows, parts, "dialogue")
        found = Counter(row.split for row in rows)
        card = _card(target, decided.fixed, decided.rule, decided.group_key)
        return build_task(decided.rows, card, out, [*account.notes(found), *decided.notes])


def _table(tree: MediaTree, part: str, folder: Path) -> list[Path]:
    tables = tree.named(TABLES[part])
    if len(tables) > 1:
        raise ValueError(f"{folder}: {len(tables)} files are called {TABLES[part]}; keep one")
    return tables


def _rows(table: Path, part: str, account: Account) -> Iterator[LabelledRow]:
    for number, line in table_lines(table, COLUMNS):
        labels = {key: line[key.title()].strip().lower() for key in CLASSES}
        for key, classes in CLASSES.items():
            if labels[key] not in classes:
                raise ValueError(
                    f"{table}, line {number}: {key} {labels[key]!r} is none of {', '.join(classes)}"
                )
        text, mended = mend_windows_characters(line["Utterance"].strip())
        account.counts["texts with characters of Windows-1252 mended"] += mended
        dialogue, utterance = int(line["Dialogue_ID"]), int(line["Utterance_ID"])
        yield LabelledRow(
            row_id=f"{part}/dia{dialogue}_utt{utterance}",
            text=text or None,
            labels=labels,
            group=f"{part}/dia{dialogue}",
            split=part,
        )


def mend_windows_characters(text: str) -> tuple[str, bool]:
    """The text with control characters from 0x80 to 0x9f read as Windows-1252, and if any were.

    The authors' files hold apostrophes so: a control character where U+2019 is meant.
    """
    mended = "".join(
        bytes([ord(one)]).decode("cp1252", "replace") if "\x80" <= one <= "\x9f" else one
        for one in text
    )
    return mended, mended != text


def _places(row: LabelledRow) -> list[tuple[str, str]]:
    clip = row.row_id.rpartition("/")[2]
    return [(folder, clip) for folder in VIDEO_FOLDERS[row.split]]


def _card(target: Target, fixed: bool, rule: str, group_key: str | None) -> TaskCard:
    return TaskCard(
        name=f"meld-{target}",
        label_key=target,
        group_key=group_key,
        classes=CLASSES[target],
        fixed_parts=PARTS if fixed else None,
        metric="weighted_f1",
        modalities=("text",),
        licence="GPL-3.0 (annotations); the videos belong to their makers",
        source="Poria et al. 2019, MELD: A Multimodal Multi-Party Dataset for Emotion Recognition "
        "in Conversations, ACL 2019, https://github.com/declare-lab/MELD",
        split_rule=rule,
        notes=("weighted F1 is the set's own measure", "speakers occur in all parts"),
    )
