"""A labelled set that is probed in seconds."""

import dataclasses
import json
import shutil
from pathlib import Path

from data_sharding.job import ShardingConfig, shard_corpus
from eval.importers.sample_topics import CORPUS, sample_topics_card
from eval.tasks import Task, save_card

CLASSES = ("animals", "food", "town")


def write_few_topics(folder: Path) -> Task:
    """A dozen pictures of each of three topics from the sample corpus."""
    few = folder / "corpus"
    counts = dict.fromkeys(CLASSES, 0)
    lines = []
    for line in (CORPUS / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        topic = row["labels"]["topic"]
        if row["split"] == "probe" and counts.get(topic, 99) < 12:
            counts[topic] += 1
            lines.append(line)
            for media in (row[name] for name in ("image", "audio") if row.get(name)):
                (few / media).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(CORPUS / media, few / media)
    (few / "manifest.jsonl").write_text("\n".join(lines))
    shard_corpus(few, folder / "task", ShardingConfig())
    card = dataclasses.replace(
        sample_topics_card(), name="few-topics", classes=CLASSES, learn_split=None
    )
    return save_card(folder / "task", card)
