"""Labelled sets that are probed in seconds."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.schema import MODALITIES
from eval.importers import TableConfig, import_table
from eval.importers.sample_topics import CORPUS, sample_topics_card
from eval.regression_metrics import ClassCuts
from eval.tasks import Task, save_card
from tiny_corpus import write_image

CLASSES = ("animals", "food", "town")
SAID = "the kitchen light is blue today"


def write_few_topics(folder: Path, modalities: Sequence[str] = MODALITIES) -> Task:
    """A dozen samples of each of three topics from the sample corpus.

    Fewer modalities have fewer subsets, each of which is fitted a hundred times.
    """
    few = folder / "corpus"
    few.mkdir(parents=True)
    counts = dict.fromkeys(CLASSES, 0)
    lines = []
    for line in (CORPUS / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        topic = row["labels"]["topic"]
        if row["split"] == "probe" and counts.get(topic, 99) < 12:
            counts[topic] += 1
            row = {name: row[name] for name in row if name not in {*MODALITIES} - {*modalities}}
            lines.append(json.dumps(row, ensure_ascii=False))
            for media in (row[name] for name in ("image", "audio") if row.get(name)):
                (few / media).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(CORPUS / media, few / media)
    (few / "manifest.jsonl").write_text("\n".join(lines))
    shard_corpus(few, folder / "task", ShardingConfig())
    card = dataclasses.replace(
        sample_topics_card(), name="few-topics", classes=CLASSES, learn_split=None
    )
    return save_card(folder / "task", card)


def write_intensities(
    folder: Path, fixed: bool = True, more: tuple[dict, ...] = (), cuts: ClassCuts = "mosi"
) -> Task:
    """Sentences whose words tell a number from -3 to 3; by default with the authors' parts.

    Without cuts into classes a fixed test part is resampled in a third of the time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(70):
        value = (number % 7) - 3
        word = ("awful", "bad", "poor", "plain", "fair", "good", "great")[number % 7]
        part = ("train", "train", "train", "valid", "test")[number // 7 % 5]
        words = f"a {word} film it was, said person number {number}"
        row = {"id": f"r{number}", "text": words, "joy": value, "part": part}
        rows.append(row | {"video": f"v{number // 7}"})
    table = folder / "table.jsonl"
    table.write_text("\n".join(map(json.dumps, [*rows, *more])), encoding="utf-8")
    config = TableConfig(
        label="joy",
        label_range=(-3.0, 3.0),
        cuts=cuts,
        group="video",
        name="intensities",
        parts="part" if fixed else None,
    )
    return import_table(table, folder / "task", config)


def write_sayings(folder: Path, num: int, repeated: Callable[[int], bool]) -> Task:
    """Rows of one picture each, two of a person, one of each mood; some say the same sentence."""
    lines = ["id,text,image,mood,person"]
    for number in range(num):
        write_image(folder / f"{number}.png", number)
        words = SAID if repeated(number) else f"it is sentence number {number}"
        mood = "good" if number % 2 else "bad"
        lines.append(f"r{number},{words},{number}.png,{mood},p{number // 2}")
    (folder / "table.csv").write_text("\n".join(lines))
    config = TableConfig(label="mood", group="person", name="said")
    return import_table(folder / "table.csv", folder / "task", config)
