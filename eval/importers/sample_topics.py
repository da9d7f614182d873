"""The built-in task: topics of the bundled sample corpus's held-out pictures."""

import hashlib
import json
import shutil
from pathlib import Path

import data_sharding
from data_sharding.job import shard_corpus
from data_sharding.manifest import VERSION
from data_sharding.schema import MODALITIES
from eval.card import Task, TaskCard, open_task, publish_folder, save_card
from eval.importers.sharding import whole_set

CORPUS = Path(data_sharding.__file__).parent / "sample_corpus"
SPLIT = "probe"
PRETRAINING_SPLIT = "train"


def prepare_sample_topics(tasks_folder: Path) -> Task:
    """Shard the sample corpus once and open its topics as a task.

    The folder's name carries the format of shard sets and a digest of corpus and card, so that
    a change of any shards it anew.

    Raises:
        data_sharding.schema.ShardError: The corpus cannot be sharded.
    """
    described = (CORPUS / "manifest.jsonl").read_bytes() + repr(sample_topics_card()).encode()
    digest = hashlib.sha256(described).hexdigest()[:12]
    folder = tasks_folder / f"sample-topics-v{VERSION}-{digest}"
    if not (folder / "task.json").is_file():
        if folder.exists():
            shutil.rmtree(folder)  # ours, by its name; without a card it was never finished
        try:
            publish_folder(folder, _shard_sample_corpus)
        except (OSError, ValueError):
            if not (folder / "task.json").is_file():  # else another process was first
                raise
    return open_task(folder)


def sample_topics_card() -> TaskCard:
    """The card: it fits every shard set of the sample corpus, pretraining's own too."""
    lines = (CORPUS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    probed = [row for row in rows if row.get("split") == SPLIT]
    return TaskCard(
        name="sample-topics",
        label_key="topic",
        group_key="group",
        classes=tuple(sorted({row["labels"]["topic"] for row in probed})),
        modalities=MODALITIES,
        licence="GPL-2.0",
        source="Tux Paint stamps (Debian package tuxpaint-stamps-default): picture, description, "
        "description spoken",
        split_rule="pictures are groups: every language of one picture lies on one side",
        split=SPLIT,
        learn_split=PRETRAINING_SPLIT,
        notes=(
            f"tested and validated on the {SPLIT!r} split alone, whose pictures are in no "
            "pretraining shard",
            f"the labels of the {PRETRAINING_SPLIT!r} split join the training part",
        ),
    )


def _shard_sample_corpus(folder: Path) -> None:
    card = sample_topics_card()
    shard_corpus(CORPUS, folder, whole_set(card.licence))
    save_card(folder, card)
