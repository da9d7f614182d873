"""Acted emotions in speech, labelled by their file names: EMO-DB, RAVDESS, CREMA-D.

File names were checked against the sets' own descriptions: EMO-DB http://emodb.bilderbar.info,
RAVDESS https://zenodo.org/record/1188976, CREMA-D https://github.com/CheyneyComputerScience/CREMA-D
(7,442 clips of 91 actors). An actor is a group: a probe is tested on voices that it has not heard.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.card import Task, TaskCard
from eval.importers.media import AUDIO, MediaTree
from eval.importers.rows import Account, LabelledRow, build_task


@dataclass(frozen=True, kw_only=True)
class SpeechSet:
    """How a set's file names tell speaker and emotion."""

    name: str
    pattern: re.Pattern[str]
    """Of the name without suffix; its groups are called speaker and emotion."""
    emotions: Mapping[str, str]
    """Code in the file name -> class."""
    published: Mapping[str, int]
    """Recordings of each class."""
    example: str
    licence: str
    source: str


SPEECH_SETS: Mapping[str, SpeechSet] = {
    "emodb": SpeechSet(
        name="emodb",
        pattern=re.compile(r"(?P<speaker>\d\d)[ab]\d\d(?P<emotion>[WLEAFTN])[a-z]"),
        emotions={
            "W": "anger",
            "L": "boredom",
            "E": "disgust",
            "A": "fear",
            "F": "happiness",
            "T": "sadness",
            "N": "neutral",
        },
        published={
            "anger": 127,
            "boredom": 81,
            "disgust": 46,
            "fear": 69,
            "happiness": 71,
            "sadness": 62,
            "neutral": 79,
        },
        example="wav/03a01Fa.wav",
        licence="free download",
        source="Burkhardt et al. 2005, A Database of German Emotional Speech, Interspeech 2005",
    ),
    "ravdess": SpeechSet(
        name="ravdess",
        pattern=re.compile(r"03-01-(?P<emotion>0[1-8])-0[12]-0[12]-0[12]-(?P<speaker>\d\d)"),
        emotions={
            "01": "neutral",
            "02": "calm",
            "03": "happy",
            "04": "sad",
            "05": "angry",
            "06": "fearful",
            "07": "disgust",
            "08": "surprised",
        },
        published={
            "neutral": 96,
            **dict.fromkeys(("calm", "happy", "sad", "angry", "fearful"), 192),
            **dict.fromkeys(("disgust", "surprised"), 192),
        },
        example="Actor_12/03-01-06-01-02-01-12.wav",
        licence="CC BY-NC-SA 4.0",
        source="Livingstone and Russo 2018, RAVDESS (audio-only speech), PLoS ONE 13(5), "
        "https://zenodo.org/record/1188976",
    ),
    "crema-d": SpeechSet(
        name="crema-d",
        pattern=re.compile(
            r"(?P<speaker>1\d{3})_[A-Z]{3}_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX|X)"
        ),
        emotions={
            "ANG": "anger",
            "DIS": "disgust",
            "FEA": "fear",
            "HAP": "happy",
            "NEU": "neutral",
            "SAD": "sad",
        },
        published={
            **dict.fromkeys(("anger", "disgust", "fear", "happy", "sad"), 1_271),
            "neutral": 1_087,
        },
        example="AudioWAV/1001_DFA_ANG_XX.wav",
        licence="Open Database License (ODbL) 1.0",
        source="Cao et al. 2014, CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE "
        "Transactions on Affective Computing 5(4)",
    ),
}


def import_speech_set(name: str, folder: Path, out: Path) -> Task:
    """Shard one of `SPEECH_SETS` and write its card.

    Args:
        name: Of the set.
        folder: The unpacked set; read only, recordings at any depth.
        out: Task folder to create.

    Raises:
        ValueError: No recording has such a name, or ``out`` exists and is not empty.
        data_sharding.schema.ShardError: The recordings cannot be sharded.
    """
    known = SPEECH_SETS[name]
    account = Account(published=known.published)
    rows: dict[str, LabelledRow] = {}
    for path in MediaTree(folder).all:
        if path.suffix.lower() not in AUDIO:
            continue
        told = known.pattern.fullmatch(path.stem)
        if told is None:
            account.counts["dropped: recordings whose name is not of the set's speech"] += 1
        elif path.stem in rows:
            account.counts["dropped: the same file name again"] += 1
        else:
            rows[path.stem] = LabelledRow(
                row_id=path.stem,
                audio=path,
                labels={"emotion": known.emotions[told["emotion"]]},
                group=told["speaker"],
            )
    if not rows:
        raise ValueError(f"{folder}: no recording is called like {known.example}")
    found = Counter(row.labels["emotion"] for row in rows.values())
    speakers = len({row.group for row in rows.values()})
    notes = [*account.notes(found), f"speakers: {speakers}"]
    return build_task(list(rows.values()), _card(known), out, notes)


def _card(known: SpeechSet) -> TaskCard:
    return TaskCard(
        name=known.name,
        label_key="emotion",
        group_key="group",
        classes=tuple(known.emotions.values()),
        modalities=("audio",),
        licence=known.licence,
        source=known.source,
        split_rule="random splits; a speaker lies on one side",
        notes=("the emotion is read from the file name",),
    )
