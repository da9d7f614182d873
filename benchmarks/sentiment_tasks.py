"""The four labelled sets of the sentiment table, and which representations are read from each.

Tweets and acted speech are the tasks of the quality benchmark, whose held-out clusters no
pretraining shard holds. Utterances of a series and the joined voice, face and utterance are
imported here, as a user would import a table, and nothing is ever pretrained on them.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from quality_tasks import Prepared, once

from eval.importers.table import TableConfig, import_table
from eval.probes.probe import ProbeConfig
from eval.representations import FUSED_SUBSETS
from eval.splits import SplitConfig

CLASSES = ("positive", "neutral", "negative")


@dataclass(frozen=True, kw_only=True)
class SentimentTask:
    """One set of the table."""

    name: str
    label: str
    representations: tuple[str, ...]
    group: str
    """What lies on one side of a split, in words."""
    epochs: int
    """Of fine-tuning; validation chooses among them."""
    scratch: bool = True
    """Whether a fresh backbone is trained on the labels as well."""
    split_shares: tuple[float, float] = (0.2, 0.3)
    """Validation and test."""

    def config(self, splits: int, workers: int) -> ProbeConfig:
        """How it is probed; copies that a later part repeats are dropped from the earlier one."""
        validation, test = self.split_shares
        return ProbeConfig(
            splits=SplitConfig(num_splits=splits, validation_share=validation, test_share=test),
            representations=self.representations,
            copies="drop",
            fit_workers=workers,
        )


TWEETS = SentimentTask(
    name="mvsa",
    label="sentiment",
    representations=("text", "image", "fused_text_image"),
    group="cluster of near-duplicate tweets",
    epochs=6,
    split_shares=(0.2, 0.5),  # of what was held out; the rest joins training
)
TASKS: tuple[SentimentTask, ...] = (
    TWEETS,
    SentimentTask(
        name="emodb",
        label="emotion",
        representations=("audio",),
        group="speaker",
        epochs=40,  # of six steps each
    ),
    SentimentTask(
        name="meld",
        label="sentiment",
        representations=("text",),
        group="dialogue",
        epochs=5,
    ),
    SentimentTask(
        name="emotion_aligned",
        label="sentiment",
        representations=("text", "image", "audio", *[n for n in FUSED_SUBSETS if "_" in n[6:]]),
        group="speaker",
        epochs=6,
        scratch=False,  # of seven subsets: it would be a third of the whole table's time
    ),
)


def prepare_tasks(data: Path, prepared: Prepared, out: Path) -> Mapping[str, Path]:
    """Folders of the four tasks, by name; each is made once.

    Raises:
        OSError: The data is not where it should be.
    """
    made = {name: out / "sentiment" / "tasks" / name for name in ("meld", "emotion_aligned")}
    once(made["meld"], partial(import_meld, data / "meld_text"))
    once(made["emotion_aligned"], partial(_import_aligned, data))
    return {"mvsa": prepared.tasks["mvsa"], "emodb": prepared.tasks["emodb"], **made}


def import_meld(source: Path, folder: Path) -> None:
    """Both parts as one task, dialogues of each its own groups."""
    rows = [row for part in ("train", "dev") for row in _meld_rows(source, part)]
    table = folder.with_name(f"{folder.name}.csv")
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    config = TableConfig(
        name="meld",
        label="sentiment",
        classes=CLASSES,
        group="dialogue",
        licence="GPL-3.0",
        source="MELD, https://github.com/declare-lab/MELD, training and development utterances",
    )
    import_table(table, folder, config)
    table.unlink()


def _meld_rows(source: Path, part: str) -> Sequence[Mapping[str, str]]:
    """Dialogues are numbered from 0 in each part."""
    with (source / f"{part}.csv").open(encoding="utf-8-sig", newline="") as stream:
        return [
            {
                "id": f"{part}_{row['id']}",
                "text": row["text"],
                "sentiment": row["sentiment"],
                "dialogue": f"{part}_{row['id'].partition('_')[0]}",
            }
            for row in csv.DictReader(stream)
        ]


def _import_aligned(data: Path, folder: Path) -> None:
    config = TableConfig(
        name="emotion_aligned",
        label="sentiment",
        classes=CLASSES,
        group="speaker",
        media_root=data,
        licence="as its parts: emodb free download, fer2013 research use, meld GPL-3.0",
        source="voice (emodb), face (fer2013) and utterance (meld), joined by emotion",
    )
    import_table(data / "emotion_aligned" / "manifest.csv", folder, config)
