"""Retrieval reports of a run, read back for its page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import TypeAdapter, ValidationError

from eval.pages.forest import Mark, draw_forest
from eval.probes.ranking import Recall
from eval.probes.retrieval import RETRIEVAL_FORMAT, Direction
from eval.records import read_json

RETRIEVAL_FOLDER = "retrieval"
WHAT = "remove it or retrieve again"
"""To do about one that cannot be read."""
DIGESTS = re.compile(r"-[0-9a-f]{8}-[0-9a-f]{8}$")
"""What ``triptych retrieve`` adds to the samples' name."""
SEEN = {
    True: "The run has learned from these samples.",
    False: "The run has not learned from this split of these shards.",
    None: "Whether the run has learned from these samples is not known.",
}


@dataclass(frozen=True, kw_only=True)
class StoredRetrieval:
    """One answer of ``triptych retrieve``.

    Attributes:
        samples: Name of what was searched.
        checkpoint: Name of the checkpoint's folder.
        question: File name: equal for equal samples and protocols.
        num_samples: That were embedded.
        seen: Whether pretraining has learned from them; None where that is not known.
        protocol: How it was searched.
        directions: ``text_to_image``, ...
    """

    samples: str
    checkpoint: str
    question: str
    num_samples: int
    seen: bool | None
    protocol: Mapping[str, Any]
    directions: Mapping[str, Direction]

    @property
    def cutoffs(self) -> list[str]:
        """Places of the ranking that count."""
        return [str(cutoff) for cutoff in self.protocol["cutoffs"]]

    def forest(self) -> Markup:
        """Recall at the last place beside chance, by direction."""
        last = self.cutoffs[-1]
        return draw_forest(
            f"{self.samples}: recall at {last} and chance",
            {
                name.replace("_to_", " → "): _marks(made.recall[last], last)
                for name, made in self.directions.items()
            },
        )

    def told_seen(self) -> str:
        """In words."""
        return SEEN[self.seen]


def read_retrievals(run: Path, digests: Mapping[str, str]) -> tuple[StoredRetrieval, ...]:
    """The newest checkpoint's answer to each question, by name of what was searched.

    Args:
        run: Its folder.
        digests: Of the checkpoints that are there, by name: an answer by weights whose place
            others have taken is left out.

    Raises:
        ValueError: A report cannot be read.
    """
    newest: dict[str, StoredRetrieval] = {}
    for path in sorted((run / RETRIEVAL_FOLDER).glob("step-????????/*.json")):
        record = read_json(path)
        checkpoint = path.parent.name
        if digests.get(checkpoint, record.get("checkpoint")) == record.get("checkpoint"):
            newest[path.name] = _read(record, path)
    return tuple(newest[name] for name in sorted(newest))


def _read(record: Mapping[str, Any], path: Path) -> StoredRetrieval:
    if record.get("format") != RETRIEVAL_FORMAT:
        raise ValueError(
            f"{path}: retrieval report format {record.get('format')!r}, this version reads "
            f"{RETRIEVAL_FORMAT}; {WHAT}"
        )
    known = {
        "samples": DIGESTS.sub("", path.stem),
        "checkpoint": path.parent.name,
        "question": path.name,
        "seen": record.get("seen_in_pretraining"),
    }
    try:
        found = TypeAdapter(StoredRetrieval).validate_python({**record, **known})
        if not found.cutoffs or not found.directions:
            raise ValueError("no cutoffs, or no directions")
        for made in found.directions.values():
            _ = [made.recall[cutoff] for cutoff in found.cutoffs]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: no retrieval report: {place}: {first['msg']}; {WHAT}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no retrieval report: {error}; {WHAT}") from None
    return found


def _marks(found: Recall, cutoff: str) -> list[Mark]:
    chance = Mark(label="chance", kind="floor", value=found.chance, low=None, high=None)
    span = found.interval
    own = Mark(
        label=f"recall at {cutoff}",
        kind="pretrained",
        value=found.value,
        low=span.low,
        high=span.high,
    )
    return [chance, own]
