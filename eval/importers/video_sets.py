"""Sets of spoken opinions on video with a sentiment intensity: MOSI, MOSEI, CH-SIMS, SIMS v2.

Layout: ``label.csv`` (SIMS v2: ``meta.csv``) with the columns video_id, clip_id, text, label,
label_T, label_A, label_V, annotation, mode, and ``Raw/VIDEO_ID/CLIP_ID.mp4``; frames and sound that
were taken out lie in ``Processed/video/Frames/VIDEO_ID/CLIP_ID/`` and
``Processed/audio/VIDEO_ID/CLIP_ID.wav``, or beside the videos. So CH-SIMS is distributed, and MOSI
and MOSEI in its authors' collection. Checked against https://github.com/thuiar/MMSA
(``data/DataPre.py``), and the counts of MOSI, MOSEI and CH-SIMS against a public card of its
features (https://huggingface.co/datasets/Bluexxx/SemMSA-data); those of SIMS v2 are its paper's.
The parts are those of the column mode.
"""

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.card import Task, TaskCard
from eval.importers.media import MediaTree, VideoReader, with_media
from eval.importers.parts import Parts, decide_parts
from eval.importers.rows import (
    PARTS,
    VALIDATION_PARTS,
    Account,
    LabelledRow,
    build_task,
    table_lines,
)
from eval.regression_metrics import ClassCuts

COLUMNS = ("video_id", "clip_id", "text", "label", "mode")


@dataclass(frozen=True, kw_only=True)
class VideoSet:
    """What is known of a set before it is read."""

    name: str
    cuts: ClassCuts
    label_range: tuple[float, float]
    published: Mapping[str, int]
    """Rows of each part."""
    licence: str
    source: str


VIDEO_SETS: Mapping[str, VideoSet] = {
    "mosi": VideoSet(
        name="mosi",
        cuts="mosi",
        label_range=(-3.0, 3.0),
        published={"train": 1_284, "validation": 229, "test": 686},
        licence="research use; videos belong to their makers, do not redistribute",
        source="Zadeh et al. 2016, MOSI: Multimodal Corpus of Sentiment Intensity, arXiv "
        "1606.06259",
    ),
    "mosei": VideoSet(
        name="mosei",
        cuts="mosi",
        label_range=(-3.0, 3.0),
        published={"train": 16_326, "validation": 1_871, "test": 4_659},
        licence="research use; videos belong to their makers, do not redistribute",
        source="Zadeh et al. 2018, Multimodal Language Analysis in the Wild: CMU-MOSEI, ACL 2018",
    ),
    "ch-sims": VideoSet(
        name="ch-sims",
        cuts="sims",
        label_range=(-1.0, 1.0),
        published={"train": 1_368, "validation": 456, "test": 457},
        licence="research use; videos belong to their makers, do not redistribute",
        source="Yu et al. 2020, CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset, ACL 2020",
    ),
    "sims-v2": VideoSet(
        name="sims-v2",
        cuts="sims",
        label_range=(-1.0, 1.0),
        published={"train": 2_722, "validation": 647, "test": 1_034},
        licence="research use; videos belong to their makers, do not redistribute",
        source="Liu et al. 2022, Make Acoustic and Visual Cues Matter: CH-SIMS v2.0, ICMI 2022 "
        "(its supervised part)",
    ),
}


def import_video_set(
    name: str,
    folder: Path,
    out: Path,
    parts: Parts,
    text_only: bool = False,
    reader: VideoReader | None = None,
) -> Task:
    """Shard one of `VIDEO_SETS` and write its card: text, one picture and the sound of each clip.

    Args:
        name: Of the set.
        folder: The unpacked set; read only.
        out: Task folder to create.
        parts: The authors' parts, or random ones that keep a video whole.
        text_only: Leave pictures and sound out.
        reader: Takes media out of videos; None: by ffmpeg, if there is one.

    Raises:
        ValueError: Another layout, a label outside the range, an unknown part, videos without
            ffmpeg, no usable row, or ``out`` exists and is not empty.
        data_sharding.schema.ShardError: The rows cannot be sharded.
    """
    known, tree = VIDEO_SETS[name], MediaTree(folder)
    tables = [*tree.named("label.csv"), *tree.named("meta.csv")]
    if len(tables) != 1:
        raise ValueError(
            f"{folder}: {len(tables)} files are called label.csv or meta.csv; the set has one, "
            f"with the columns {', '.join(COLUMNS)}"
        )
    account = Account(published=known.published)
    with tempfile.TemporaryDirectory(prefix="triptych-") as scratch:
        reader = reader or VideoReader(Path(scratch))
        rows = list(_rows(tables[0], known, account))
        if not text_only:
            rows = [with_media(row, _places(row), tree, reader, account) for row in rows]
        decided = decide_parts(rows, parts, "video")
        found = Counter(row.split for row in rows)
        card = _card(known, decided.fixed, decided.rule, decided.group_key)
        return build_task(decided.rows, card, out, [*account.notes(found), *decided.notes])


def _rows(table: Path, known: VideoSet, account: Account) -> Iterator[LabelledRow]:
    for number, line in table_lines(table, COLUMNS):
        where = f"{table}, line {number}"
        if not line["label"].strip():
            account.counts["dropped: no label"] += 1
            continue
        video, clip = line["video_id"].strip(), line["clip_id"].strip()
        yield LabelledRow(
            row_id=f"{video}/{clip}",
            text=line["text"].strip() or None,
            labels={"sentiment": repr(_label(line["label"], known.label_range, where))},
            group=video,
            split=_part(line["mode"], where),
        )


def _label(word: str, label_range: tuple[float, float], where: str) -> float:
    """A label inside its range.

    Raises:
        ValueError: No number, or outside.
    """
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not label_range[0] <= value <= label_range[1]:
        raise ValueError(f"{where}: label {word!r} is no number within {label_range}")
    return value


def _part(mode: str, where: str) -> str:
    word = mode.strip().lower()
    part = "validation" if word in VALIDATION_PARTS else word
    if part not in PARTS:
        raise ValueError(f"{where}: mode {mode!r} is none of train, valid, test")
    return part


def _places(row: LabelledRow) -> list[tuple[str, str]]:
    """Where a clip's files may lie; tables that went through a spreadsheet have lost its zeros."""
    video, _, clip = row.row_id.rpartition("/")
    return [(video, form) for form in dict.fromkeys((clip, clip.zfill(4), clip.lstrip("0") or "0"))]


def _card(known: VideoSet, fixed: bool, rule: str, group_key: str | None) -> TaskCard:
    return TaskCard(
        name=known.name,
        label_key="sentiment",
        group_key=group_key,
        label_range=known.label_range,
        class_cuts=known.cuts,
        fixed_parts=PARTS if fixed else None,
        modalities=("text",),
        licence=known.licence,
        source=known.source,
        split_rule=rule,
        notes=("the picture is the middle frame, or the clip's most typical one by ffmpeg",),
    )
