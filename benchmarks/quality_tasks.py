"""Pretraining shards and probe tasks of the quality benchmark, made once in its folder."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from quality_data import (
    DATASETS,
    Row,
    clustered,
    held_out,
    near_pictures,
    one_per_picture,
    pictures_of,
    read_rows,
    thinned,
    without_rare_classes,
)

from data_sharding.cleaning.reencode import EncodeConfig
from data_sharding.duplicates import DuplicatesConfig
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from data_sharding.sources import SourceConfig
from data_sharding.stats import StatsConfig, compute_stats
from data_sharding.stream.source import write_blend
from data_sharding.vocabulary import VocabularyConfig
from eval.tasks import TaskCard, save_card

HELD_OUT_SHARE = {"tuxpaint": 0.4, "art4apps": 0.4, "mvsa_single": 0.4, "emodb": 1.0}
"""All eight speakers of emodb are tested: four would leave two to choose a test part from."""
BLEND = {"tuxpaint": 0.4, "art4apps": 0.25, "mvsa_single": 0.35}
"""Share of each set in a pretraining batch; emodb has nothing left to give."""
LICENCES = {
    "tuxpaint": "GPL-2.0",
    "art4apps": "CC-BY-SA-3.0 and GPL, by picture",
    "mvsa_single": "research use only; posts of private people, do not redistribute",
    "emodb": "free download",
}
ENCODE = EncodeConfig(image_short_side=128, jpeg_quality=90, audio="flac16k")
"""Opus takes four times as long to decode as FLAC, which was most of a small model's step."""
WORD_LANGUAGES = ("de", "fr")
"""Languages whose words are probed: each of them names over 800 of the 863 drawings."""
SEED = 1
"""Chooses what is held out; the recipe was tried on what seed 0 holds out."""
LEARN, TEST = "train", "probe"
"""Splits of a task: what pretraining may have seen, and what it has not."""


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """Which rows of a set are probed, and what the table reads from them."""

    dataset: str
    modalities: tuple[str, ...]
    choose: Callable[[Sequence[Row]], list[Row]]
    """Rows that are probed, of all rows of the set."""
    rows: Mapping[str, str]
    """Row of the table -> the representation it reads."""


PLANS: dict[str, TaskPlan] = {
    "tuxpaint": TaskPlan(
        dataset="tuxpaint",
        modalities=("text", "image", "audio"),
        choose=lambda rows: without_rare_classes(one_per_picture(rows)),
        rows={"tuxpaint topic, image": "image"},
    ),
    "art4apps": TaskPlan(
        dataset="art4apps",
        modalities=("text", "image", "audio"),
        choose=lambda rows: without_rare_classes(one_per_picture(rows)),
        rows={"art4apps category, image": "image"},
    ),
    "art4apps-words": TaskPlan(
        dataset="art4apps",
        modalities=("text", "image", "audio"),
        choose=lambda rows: without_rare_classes(
            [row for row in rows if row.language in WORD_LANGUAGES]
        ),
        rows={"art4apps category, text": "text", "art4apps category, audio": "audio"},
    ),
    "emodb": TaskPlan(
        dataset="emodb",
        modalities=("text", "audio"),
        choose=list,
        rows={"emodb emotion, audio": "audio"},
    ),
    "mvsa": TaskPlan(
        dataset="mvsa_single",
        modalities=("text", "image"),
        choose=list,
        rows={
            "mvsa sentiment, text": "text",
            "mvsa sentiment, image": "image",
            "mvsa sentiment, both": "fused",
        },
    ),
}
TABLE_ROWS: dict[str, tuple[str, str]] = {
    row: (task, subset) for task, plan in PLANS.items() for row, subset in plan.rows.items()
}
"""Row of the table -> (task, representation), in order."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What `prepare` leaves in its folder."""

    blend: Path
    tasks: Mapping[str, Path]


def prepare(data: Path, out: Path, vocab_size: int, share: float = 1.0) -> Prepared:
    """Shard everything below ``out``, or find it there.

    Each part appears whole, by a rename, so a killed run goes on with the next part.

    Args:
        data: The real sets.
        out: Folder of this run.
        vocab_size: Of the blend's word pieces.
        share: Of all clusters; less than 1 is quicker and proves nothing.

    Raises:
        AssertionError: A test cluster lies in a pretraining shard.
        OSError: The data is not where it should be.
    """
    made = Prepared(blend=out / "blend", tasks={name: out / "tasks" / name for name in PLANS})
    if (out / "prepared").exists():
        return made
    rows = [row for name in DATASETS for row in read_rows(data, name)]
    rows = thinned(clustered(rows, near_pictures(pictures_of(rows, data))), share)
    unseen = held_out(rows, HELD_OUT_SHARE, SEED)
    for name in BLEND:
        seen = [row for row in rows if row.dataset == name and row.cluster not in unseen]
        records = [row.record(LEARN) for row in seen]
        once(out / "shards" / name, partial(_shard, data / name, records))
    for name, plan in PLANS.items():
        chosen = plan.choose([row for row in rows if row.dataset == plan.dataset])
        once(made.tasks[name], partial(_task, data, name, (chosen, unseen)))
    once(made.blend, partial(_blend, out / "shards", vocab_size))
    refuse_contamination(out, unseen)
    (out / "prepared").touch()
    return made


def refuse_contamination(out: Path, unseen: set[str]) -> None:
    """No held-out cluster in a pretraining shard, read back from the shards themselves."""
    seen = {cluster for name in BLEND for cluster in clusters_in(out / "shards" / name, LEARN)}
    tested = {cluster for name in PLANS for cluster in clusters_in(out / "tasks" / name, TEST)}
    assert tested <= unseen, sorted(tested - unseen)[:5]
    assert not seen & unseen, sorted(seen & unseen)[:5]


def clusters_in(folder: Path, split: str) -> set[str]:
    """Clusters of a split, as its shards' own JSON tells them."""
    reader = ShardReader((ShardSet.open(folder, split),))
    found = {
        json.loads(bytes(reader.read(number, ("json",)).members["json"]))["metadata"]["cluster"]
        for number in range(len(reader))
    }
    reader.close()
    return found


def once(folder: Path, make: Callable[[Path], None]) -> None:
    """Make a folder unless it is there; it appears whole, by a rename."""
    if folder.exists():
        return
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    make(temporary)
    temporary.rename(folder)


def _shard(media: Path, records: Sequence[Mapping[str, object]], folder: Path) -> None:
    corpus = folder.with_name(f"{folder.name}.jsonl")
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = ShardingConfig(
        licence=LICENCES[media.name],
        source=SourceConfig(layout="manifest", media_root=str(media.absolute())),
        duplicates=DuplicatesConfig(exact="keep", near="off"),
        encode=ENCODE,
    )
    print(shard_corpus(corpus, folder, config).summary(), flush=True)
    corpus.unlink()


def _task(data: Path, name: str, held: tuple[Sequence[Row], set[str]], folder: Path) -> None:
    rows, unseen = held
    plan = PLANS[name]
    labelled = [row for row in rows if row.label is not None]
    records = [row.record(TEST if row.cluster in unseen else LEARN) for row in labelled]
    _shard(data / plan.dataset, records, folder)
    some_seen = any(record["split"] == LEARN for record in records)
    save_card(
        folder,
        TaskCard(
            name=name,
            label_key="class",
            group_key="cluster",
            classes=tuple(sorted({row.label for row in labelled if row.label})),
            modalities=plan.modalities,
            licence=LICENCES[plan.dataset],
            source=f"{plan.dataset}, as described in the data's README.md",
            split_rule="clusters of equal or near pictures, equal names, speakers or published "
            "groups lie on one side",
            split=TEST,
            learn_split=LEARN if some_seen else None,
            notes=("tested and validated on clusters that are in no pretraining shard",),
        ),
    )


def _blend(shards: Path, vocab_size: int, folder: Path) -> None:
    write_blend(folder, {str((shards / name).absolute()): BLEND[name] for name in BLEND}, LEARN)
    compute_stats(folder, StatsConfig(vocabulary=VocabularyConfig(vocab_size=vocab_size)))
