"""Stored reports of every kind in one form: what a method scored, and all that it depends on.

A method is the linear probe, another probe of the same features, or fine-tuning.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from data_sharding.schema import MODALITIES
from eval.comparison import Comparison, Summary
from eval.finetune.report import FineTuneReport, TunedScores
from eval.pages.others_table import LINEAR
from eval.probes.late_fusion import EVEN_VOTE
from eval.probes.probe_report import (
    OTHERS,
    OtherProbe,
    ProbeReport,
    SubsetReport,
    random_splits,
    repeats,
)
from eval.records import flatten
from eval.representations import modalities_of

TUNED = "fine-tuned"
NO_INTERVAL = "a fine-tuned model has no interval on a test part that its authors fixed"
USUAL = {"rows": "own", "copies": "refuse"}
"""Of a probe's protocol: what an entry that is not there stands for."""
NOT_THE_SCORE = (
    "representations",
    "late",
    "num_random_backbones",
    "random_floor",
    "shuffled_floor",
    "tfidf_floor",
    "constant_floor",
    OTHERS,
)
"""Of a protocol: what other rows, the floors and other probes depend on, and the scores not."""
LEARNER = ("linear", "classifier", "ridge", "regressor")
"""Of a protocol: what is fitted, and of what grid, by the linear probe and by few-shot probes."""
LEARNS_OTHERWISE = ("knn", "attentive")
"""Probes that no part of `LEARNER` is of any concern to."""
OF_SEVERAL = ("finetune.modality_dropout",)
"""Of a flat protocol: what changes nothing where one modality alone is read."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One representation.

    Attributes:
        score: On the card's metric, split by split.
        floors: The same of each floor, by its name in `eval.pages.page.FLOORS`.
        split_sizes: Samples of each part, by split.
        reads: The modalities.
        unjudged: Why a test part that the authors fixed gives no verdict; empty where it does.
    """

    score: Summary
    floors: Mapping[str, Summary]
    split_sizes: tuple[Mapping[str, int], ...]
    reads: tuple[str, ...]
    unjudged: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one method scored of one checkpoint on one task.

    Attributes:
        method: As it is told; see `command` for how it is asked for.
        card: Of the task.
        checkpoint: Name and digest, of a run's also how many samples it had seen.
        shards: Digest of the shard set.
        protocol: All that a score depends on besides, by dotted name.
        over: What a score is the mean over, in words.
        scored: By representation.
        contamination: What pretraining has seen of the test samples, as a probe report tells it;
            empty where nothing is known.
        findings: What a reader of the scores must know.
    """

    method: str
    card: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    shards: str
    protocol: Mapping[str, Any]
    over: str
    scored: Mapping[str, Scored]
    contamination: Mapping[str, Any]
    findings: tuple[str, ...]

    @property
    def metric(self) -> str:
        """What decides, by the card."""
        return self.card["metric"]

    def depends_on(self, name: str) -> Mapping[str, Any]:
        """What of the protocol the score of a representation depends on."""
        idle = OF_SEVERAL if len(self.scored[name].reads) == 1 else ()
        return {key: value for key, value in self.protocol.items() if key not in idle}

    def seen(self, name: str) -> str:
        """What pretraining has seen of what a representation is tested on; empty: nothing known.

        Of a modality that it does not read nothing is told.
        """
        counts = self.contamination.get("seen_by_modality", {})
        told = [
            f"the {part} of {counts[part]}" for part in self.scored[name].reads if counts.get(part)
        ]
        tested = self.contamination.get("num_tested")
        return f"{' and '.join(told)} of {tested} test samples" if told else ""


def linear_answer(report: ProbeReport) -> Answer:
    """What the linear probe (where the label is a number: ridge regression) scored."""
    asked = {key: value for key, value in report.protocol.items() if key not in NOT_THE_SCORE}
    scored = {name: _linear(report, name, part) for name, part in report.subsets.items()}
    return Answer(
        method=LINEAR,
        card=report.task,
        checkpoint=report.checkpoint,
        shards=report.shards["digest"],
        protocol=dict(flatten(USUAL | asked)),
        over=repeats(report),
        scored=scored,
        contamination=report.contamination,
        findings=report.findings,
    )


def probe_answers(report: ProbeReport) -> dict[str, Answer]:
    """By method: the linear probe, and every other one that was made of some representation."""
    linear = linear_answer(report)
    names = dict.fromkeys(name for part in report.subsets.values() for name in part.others)
    asked = report.protocol.get(OTHERS, {})
    answers = {LINEAR: linear}
    for name in names:
        kind = _kind(name)
        answers[name] = replace(
            linear,
            method=name,
            protocol=_shared_with(kind, linear) | dict(flatten({kind: asked.get(kind)})),
            scored={
                subset: _other(linear, subset, part.others[name])
                for subset, part in report.subsets.items()
                if name in part.others
            },
            findings=(),  # told with the linear probe
        )
    return answers


def tuned_answer(report: FineTuneReport, contamination: Mapping[str, Any]) -> Answer:
    """What fine-tuned models scored.

    Args:
        report: Of the models.
        contamination: Of a probe report of the same run and shards, for models are tuned without
            a look at the pretraining shards; empty where there is none.
    """
    asked = {key: value for key, value in report.protocol.items() if key not in NOT_THE_SCORE}
    scored = {name: _tuned(report, part) for name, part in report.representations.items()}
    count = max((len(part.score.per_split) for part in scored.values()), default=0)
    over = random_splits(report.task, count)
    if report.task.get("fixed_parts"):
        over = f"{count} draws of the authors' training groups, tested on their test part"
    return Answer(
        method=TUNED,
        card=report.task,
        checkpoint=report.checkpoint,
        shards=report.shards["digest"],
        protocol=dict(flatten(asked)),
        over=over,
        scored=scored,
        contamination=contamination,
        findings=(*_unknown(contamination), *report.findings),
    )


def rank(method: str) -> int:
    """Sorts the linear probe first, fine-tuning last."""
    return {LINEAR: 0, TUNED: 2}.get(method, 1)


def lacking(method: str) -> str:
    """That a run was not scored so."""
    named = {LINEAR: "not probed on it", TUNED: "not fine-tuned on it"}
    return named.get(method, f"no {method} probe on it")


def command(method: str, run: str, task: str) -> str:
    """What makes a method's scores."""
    if method == TUNED:
        return f"triptych finetune {run} {task}"
    also = "" if method == LINEAR else f" --also {_kind(method)}"
    return f"triptych probe {run} {task}{also}"


def why_open(found: Comparison) -> str:
    """Why a comparison has no verdict, without the words that it has none."""
    return found.reason.removeprefix("no verdict: ")


def _linear(report: ProbeReport, name: str, part: SubsetReport) -> Scored:
    metric = report.task["metric"]
    voters = tuple(modality for modality in MODALITIES if modality in report.subsets)
    return Scored(
        score=part.pretrained.metrics[metric],
        floors={floor: found.metrics[metric] for floor, found in part.floors.items()},
        split_sizes=part.split_sizes,
        reads=voters if name == EVEN_VOTE else modalities_of(name),
        unjudged=_unjudged(part.versus_random),
    )


def _shared_with(kind: str, linear: Answer) -> dict[str, Any]:
    """What of the linear probe's protocol another probe's scores depend on as well."""
    other = LEARNER if kind in LEARNS_OTHERWISE else ()
    asked = linear.protocol.items()
    return {key: value for key, value in asked if key.partition(".")[0] not in other}


def _other(linear: Answer, subset: str, other: OtherProbe) -> Scored:
    return replace(
        linear.scored[subset],
        score=other.pretrained.metrics[linear.metric],
        floors={"random": other.random.metrics[linear.metric]},
        unjudged=_unjudged(other.versus_random),
    )


def _tuned(report: FineTuneReport, part: TunedScores) -> Scored:
    metric = report.task["metric"]
    constant = "majority" if report.task.get("classes") else "mean"
    return Scored(
        score=part.metrics[metric],
        floors={constant: part.constant[metric]},
        split_sizes=part.split_sizes,
        reads=part.modalities,
        unjudged=NO_INTERVAL,
    )


def _kind(name: str) -> str:
    """``few-shot`` of ``few-shot 5 %``; other names are kinds."""
    return name.partition(" ")[0]


def _unknown(contamination: Mapping[str, Any]) -> Iterator[str]:
    """What to know where nobody has looked at the pretraining shards."""
    if not contamination.get("checked"):
        reason = contamination.get("reason", "a probe of the run on these shards looks")
        yield f"whether pretraining has seen test samples is not known: {reason}"


def _unjudged(found: Comparison) -> str:
    return why_open(found) if found.beats is None else ""
