"""MVSA-Single: tweets of a text and a picture, labelled positive, neutral or negative.

Source: Niu, Zhu, Pang and El Saddik 2016, "Sentiment Analysis on Multi-View Social Data",
MMM 2016, https://mcrlab.net/research/mvsa-sentiment-analysis-on-multi-view-social-data/.
One label for each pair is made as Xu and Mao 2017 ("MultiSentiNet", CIKM 2017) made it: equal
labels stay, a neutral one gives way to the other, positive against negative is dropped.
"""

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_sharding.job import shard_corpus
from eval.card import Task, TaskCard, open_task, publish_folder, save_card
from eval.importers.near_duplicates import cluster
from eval.importers.sharding import whole_set

CLASSES = ("positive", "neutral", "negative")
ENCODINGS = ("utf-8", "gb18030", "latin-1")
"""Order in which a text file is tried; Latin-1 takes any bytes, so the last one never fails."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One usable pair of the set."""

    pair_id: str
    text: str
    image: Path
    label: str
    group: str


def import_mvsa_single(folder: Path, out: Path) -> Task:
    """Shard MVSA-Single and write its card.

    Two layouts are read: the authors' (``labelResult.txt``, ``data/ID.jpg``, ``data/ID.txt``), and
    one with ``manifest.csv`` (columns id, image, text, label, group; rows without a label are
    dropped). Pairs with the same picture or the same text form one group.

    Args:
        folder: The unpacked set; read only.
        out: Task folder to create.

    Raises:
        ValueError: Neither layout, a label that is none of the three, no usable pair, or ``out``
            exists and is not empty.
        data_sharding.schema.ShardError: The pairs cannot be sharded.
    """
    counts: Counter[str] = Counter()
    if (folder / "labelResult.txt").is_file():
        pairs = _with_groups(_authors_pairs(folder, counts))
    elif (folder / "manifest.csv").is_file():
        pairs = list(_manifest_pairs(folder, counts))
    else:
        raise ValueError(
            f"{folder}: neither labelResult.txt (the authors' layout, beside data/) nor "
            "manifest.csv is here"
        )
    if not pairs:
        raise ValueError(f"{folder}: no usable pair; dropped: {dict(sorted(counts.items()))}")
    card = _card(counts, pairs)
    publish_folder(out, lambda shards: _shard(pairs, shards, card))
    return open_task(out)


def combine_labels(text_label: str, image_label: str) -> str | None:
    """One label of two; None where one is positive and the other negative."""
    if text_label == image_label or image_label == "neutral":
        return text_label
    return image_label if text_label == "neutral" else None


def decode_text(content: bytes) -> tuple[str, str]:
    """Text and the encoding that fitted, tried in the order of `ENCODINGS`.

    GB18030 also fits a few Latin-1 texts by chance; bytes alone cannot tell them apart.
    """
    for encoding in ENCODINGS:
        try:
            return content.decode(encoding).strip(), encoding
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes any bytes")


def _authors_pairs(folder: Path, counts: Counter[str]) -> Iterator[Pair]:
    """Pairs of ``labelResult.txt``, lines ``ID<tab>text,image`` under a heading."""
    lines = (folder / "labelResult.txt").read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, start=1):
        pair_id, _, labels = (part.strip() for part in line.partition("\t"))
        if not line.strip() or pair_id.lower() == "id":
            continue
        both = tuple(label.strip().lower() for label in labels.split(","))
        if len(both) != 2 or not set(both) <= set(CLASSES) or not pair_id.isdecimal():
            raise ValueError(
                f"{folder / 'labelResult.txt'}, line {number}: expected 'ID<tab>text,image' with "
                f"labels among {CLASSES}, got {line!r}"
            )
        label = combine_labels(*both)
        if label is None:
            counts["dropped: one label positive, the other negative"] += 1
            continue
        yield from _read_pair(folder / "data", pair_id, label, counts)


def _read_pair(data: Path, pair_id: str, label: str, counts: Counter[str]) -> Iterator[Pair]:
    text_file, image = data / f"{pair_id}.txt", data / f"{pair_id}.jpg"
    if not text_file.is_file() or not image.is_file():
        counts["dropped: text or picture missing"] += 1
        return
    text, encoding = decode_text(text_file.read_bytes())
    if not text:
        counts["dropped: empty text"] += 1
        return
    counts[f"texts decoded as {encoding}"] += 1
    yield Pair(pair_id=pair_id, text=text, image=image, label=label, group=pair_id)


def _manifest_pairs(folder: Path, counts: Counter[str]) -> Iterator[Pair]:
    with (folder / "manifest.csv").open(encoding="utf-8-sig", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=2):
            lacking = [name for name in ("id", "image", "text", "label") if row.get(name) is None]
            if lacking:
                raise ValueError(f"{folder / 'manifest.csv'}, line {number}: lacks {lacking}")
            label, image = row["label"].strip().lower(), folder / row["image"]
            if not label:
                counts["dropped: no label"] += 1
                continue
            if label not in CLASSES:
                raise ValueError(
                    f"{folder / 'manifest.csv'}, line {number}: label {label!r} is none of "
                    f"{CLASSES}"
                )
            if not row["text"].strip() or not image.is_file():
                counts["dropped: text or picture missing"] += 1
                continue
            group = row.get("group") or row["id"]
            yield Pair(
                pair_id=row["id"], text=row["text"].strip(), image=image, label=label, group=group
            )


def _with_groups(pairs: Iterable[Pair]) -> list[Pair]:
    """Pairs again, with one group for each cluster of equal pictures or equal texts."""
    found = list(pairs)
    groups = cluster([(pair.pair_id, pair.text, pair.image) for pair in found])
    return [
        Pair(
            pair_id=pair.pair_id,
            text=pair.text,
            image=pair.image,
            label=pair.label,
            group=groups[pair.pair_id],
        )
        for pair in found
    ]


def _shard(pairs: list[Pair], shards: Path, card: TaskCard) -> None:
    """Lay the pairs out as a corpus beside ``shards`` (a corpus may not point outside itself)."""
    corpus = shards.parent / "corpus"
    (corpus / "images").mkdir(parents=True)
    rows = [json.dumps(_manifest_row(pair, corpus), ensure_ascii=False) for pair in pairs]
    (corpus / "manifest.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    shard_corpus(corpus, shards, whole_set(card.licence))
    save_card(shards, card)


def _manifest_row(pair: Pair, corpus: Path) -> dict[str, object]:
    """The pair as a row of the corpus; its picture is linked there, or copied."""
    name = f"images/{pair.pair_id}{pair.image.suffix.lower()}"
    try:
        os.link(pair.image.resolve(), corpus / name)
    except OSError:  # another file system, or one without links
        shutil.copyfile(pair.image, corpus / name)
    return {
        "id": pair.pair_id,
        "text": pair.text,
        "image": name,
        "labels": {"sentiment": pair.label},
        "metadata": {"group": pair.group},
    }


def _card(counts: Counter[str], pairs: list[Pair]) -> TaskCard:
    classes = Counter(pair.label for pair in pairs)
    return TaskCard(
        name="mvsa-single",
        label_key="sentiment",
        group_key="group",
        classes=CLASSES,
        modalities=("text", "image"),
        licence="research use only; posts of private people, do not redistribute",
        source="Niu et al. 2016, Sentiment Analysis on Multi-View Social Data (MVSA-Single), "
        "https://mcrlab.net/research/mvsa-sentiment-analysis-on-multi-view-social-data/",
        split_rule="near duplicates (equal picture or equal text) lie on one side",
        notes=(
            "label of a pair: equal labels stay, neutral gives way to the other, positive against "
            "negative is dropped (Xu and Mao 2017)",
            f"texts are tried as {', '.join(ENCODINGS)}, in this order",
            *(f"{reason}: {count}" for reason, count in sorted(counts.items())),
            *(f"pairs labelled {name}: {classes[name]}" for name in CLASSES),
        ),
    )
