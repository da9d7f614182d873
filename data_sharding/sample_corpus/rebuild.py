"""Rebuild the bundled sample corpus from Debian's package ``tuxpaint-stamps-default``.

    python data_sharding/sample_corpus/rebuild.py [--stamps DIR] OUT

In come Tux Paint's stamps: a picture, a text file (English on its first line, then
``fr.utf8=...`` lines) and one recording of that text for each spoken language. Out come
``manifest.jsonl``, ``images/`` and ``audio/``: one row for each picture, in one language.
Nothing is drawn at random: the same package and codecs give the same bytes.

A topic is a top-level folder of the stamps. Pictures that look like another one are left out;
variants of one thing share a group, and a group is either for pretraining or for the probe.
"""

import argparse
import functools
import hashlib
import io
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from data_sharding.sample_corpus.ogg import with_fixed_serial
from data_sharding.sample_corpus.stamps import (
    LANGUAGES,
    Stamp,
    read_picture,
    read_speech,
    read_stamps,
    recording,
)

STAMPS = Path("/usr/share/tuxpaint/stamps")
TOPICS = ("animals", "food", "household", "plants", "seasonal", "symbols", "town", "vehicles")
MAX_PICTURES_PER_TOPIC = 90
PROBE_SHARE = 0.4
"""Share of each topic's groups that pretraining never sees."""

JPEG_QUALITY = 85
SAMPLE_RATE_HZ = 16_000
OPUS_COMPRESSION = 0.93
"""libsndfile's scale from 0 to 1; about 24 kbit/s for one channel."""

DUPLICATE_DISTANCE = 0.07
"""Pictures nearer than this are one picture: the later one is left out."""
VARIANT_DISTANCE = 0.25
"""Pictures of a topic nearer than this are variants: they share a group, so also a split."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the corpus: which stamp, in which language, in which group and split."""

    stamp: Stamp
    language: str
    group: str
    split: str

    def manifest(self) -> dict[str, Any]:
        """The row as it is written to ``manifest.jsonl``."""
        key, text_en = self.stamp.key, self.stamp.text_en
        return {
            "id": key,
            "text": self.stamp.texts[self.language],
            "image": f"images/{key}.jpg",
            "audio": f"audio/{key}.ogg",
            "split": self.split,
            "labels": {"topic": self.stamp.topic},
            "metadata": {
                "language": self.language,
                "text_en": text_en,
                "group": self.group,
            },
        }


def digest(text: str) -> str:
    """A fixed shuffle: sorting by it depends on the name alone."""
    return hashlib.sha256(text.encode()).hexdigest()


def apart(stamp: Stamp, other_stamp: Stamp) -> float:
    """How far two pictures, or one and the mirrored other, are apart; 0 where they are equal.

    Relative to how far both are from blank white paper, or all pale pictures would be alike.
    """
    one, other = stamp.thumbnail, other_stamp.thumbnail
    ink = float(np.linalg.norm(1.0 - one) * np.linalg.norm(1.0 - other)) ** 0.5
    straight = float(np.linalg.norm(one - other))
    mirrored = float(np.linalg.norm(one - other[:, ::-1]))
    return min(straight, mirrored) / max(ink, 1e-6)


def without_duplicates(stamps: Iterable[Stamp]) -> list[Stamp]:
    """The stamps without those that look like an earlier one."""
    kept: list[Stamp] = []
    for stamp in stamps:
        if all(apart(stamp, other) > DUPLICATE_DISTANCE for other in kept):
            kept.append(stamp)
    return kept


def are_variants(one: Stamp, other: Stamp) -> bool:
    """Whether two stamps must stay on one side of a split."""
    return (
        one.text_en.casefold() == other.text_en.casefold()
        or (one.topic, one.variant_name) == (other.topic, other.variant_name)
        or (one.topic == other.topic and apart(one, other) < VARIANT_DISTANCE)
    )


def group_variants(stamps: list[Stamp]) -> dict[str, list[Stamp]]:
    """Connected variants, by the first one's key. Members of a second topic are left out."""
    group_of: dict[str, list[Stamp]] = {}
    for stamp in stamps:
        near = [group for group in group_of.values() if any(are_variants(stamp, s) for s in group)]
        merged = [member for group in near for member in group] + [stamp]
        for group in near:
            del group_of[group[0].key]
        merged.sort(key=lambda member: member.key)
        group_of[merged[0].key] = merged
    return {
        name: [member for member in group if member.topic == group[0].topic]
        for name, group in group_of.items()
    }


def pick(groups: dict[str, list[Stamp]]) -> list[tuple[str, Stamp]]:
    """At most 90 (group, stamp) pairs of one topic: a stamp of each group, then second ones."""
    turns = [
        (turn, digest(name), name, stamp)
        for name, members in groups.items()
        for turn, stamp in enumerate(members)
    ]
    turns.sort(key=lambda item: item[:2])
    return [(name, stamp) for _, _, name, stamp in turns[:MAX_PICTURES_PER_TOPIC]]


def plan_topic(groups: dict[str, list[Stamp]]) -> list[Row]:
    """The rows of one topic, its languages as even as the recordings allow."""
    picked = pick(groups)
    by_digest = sorted({name for name, _ in picked}, key=lambda name: digest("split " + name))
    probe = set(by_digest[: round(PROBE_SHARE * len(by_digest))])
    spoken: Counter[tuple[str, str]] = Counter()
    rows = []
    for name, stamp in picked:
        split = "probe" if name in probe else "train"
        available = [language for language in LANGUAGES if language in stamp.texts]
        language = min(available, key=lambda one: (spoken[split, one], digest(stamp.key + one)))
        spoken[split, language] += 1
        rows.append(Row(stamp=stamp, language=language, group=name, split=split))
    return rows


def plan(stamps: Path) -> list[Row]:
    """All rows of the corpus, sorted by id."""
    by_topic: dict[str, dict[str, list[Stamp]]] = defaultdict(dict)
    for name, members in group_variants(without_duplicates(read_stamps(stamps, TOPICS))).items():
        by_topic[members[0].topic][name] = members
    rows = [row for groups in by_topic.values() for row in plan_topic(groups)]
    return sorted(rows, key=lambda row: row.stamp.key)


@functools.cache
def resampler(rate: int) -> Resample:
    """From a rate in Hz to 16 kHz; its filter is made once."""
    return Resample(rate, SAMPLE_RATE_HZ)


def encode_opus(speech: np.ndarray, rate: int) -> bytes:
    """float32 [time] as Ogg/Opus at 16 kHz."""
    waveform = resampler(rate)(torch.from_numpy(speech)).numpy()
    buffer = io.BytesIO()
    soundfile.write(
        buffer, waveform, SAMPLE_RATE_HZ,
        format="OGG", subtype="OPUS", compression_level=OPUS_COMPRESSION,
    )  # fmt: skip
    return with_fixed_serial(buffer.getvalue())


def write(rows: list[Row], out: Path) -> None:
    """Write the media, then the manifest."""
    for folder in ("images", "audio"):
        (out / folder).mkdir(parents=True)
    for row in rows:
        entry, png = row.manifest(), row.stamp.png
        read_picture(png).save(out / entry["image"], quality=JPEG_QUALITY, optimize=True)
        speech, rate = read_speech(recording(png, row.language))
        (out / entry["audio"]).write_bytes(encode_opus(speech, rate))
    lines = [json.dumps(row.manifest(), ensure_ascii=False) + "\n" for row in rows]
    (out / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> int:
    """Parse the command line; exit code 2 on input that cannot be used."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--stamps", type=Path, default=STAMPS, help=f"default: {STAMPS}")
    arguments = parser.parse_args()
    if not (arguments.stamps / TOPICS[0]).is_dir():
        print(
            f"{arguments.stamps}: no stamps here; apt-get install tuxpaint-stamps-default",
            file=sys.stderr,
        )
        return 2
    if arguments.out.exists() and any(arguments.out.iterdir()):
        print(f"{arguments.out}: not empty; give a new folder", file=sys.stderr)
        return 2
    rows = plan(arguments.stamps)
    write(rows, arguments.out)
    print(f"{len(rows)} triples in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
