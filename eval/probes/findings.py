"""What a reader must know beside the scores, in sentences: a report carries and shows them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.metrics import fallen_on
from eval.probes.contents import told_of_dropped
from eval.probes.probe_report import SubsetReport


def findings(
    subsets: Mapping[str, SubsetReport],
    classes: Sequence[str],
    contamination: Mapping[str, Any],
    num_dropped: int,
    words: Mapping[str, str | None],
) -> tuple[str, ...]:
    """Sentences on samples that pretraining saw, one-sided predictions, fits and empty values.

    Args:
        subsets: The representations' reports.
        classes: The label set; empty where the label is a number.
        contamination: See `eval.probes.contamination`.
        num_dropped: Samples left out of training because a later part repeats them.
        words: By representation: what there is to tell of equal words.
    """
    told = list(_of_data(contamination, num_dropped))
    for name, part in subsets.items():
        own = [words[name]] if words.get(name) else []
        told += [f"{name}: {sentence}" for sentence in (*own, *_of_subset(part, classes))]
    return tuple(told)


def _of_data(contamination: Mapping[str, Any], num_dropped: int) -> Iterator[str]:
    if not contamination["checked"]:
        reason = contamination["reason"]
        yield f"whether pretraining has seen test samples is not known: {reason}"
    elif contamination["num_seen"]:
        counts = contamination["seen_by_modality"]
        each = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        yield (
            f"pretraining has seen content of {contamination['num_seen']} of "
            f"{contamination['num_tested']} test samples ({each})"
        )
    yield from told_of_dropped(num_dropped)


def _of_subset(part: SubsetReport, classes: Sequence[str]) -> Iterator[str]:
    own = part.pretrained
    if own.confusion and (fallen := fallen_on(own.confusion)) is not None:
        place, share = fallen
        yield (
            f"{100 * share:.0f} % of the predictions are {classes[place]!r}: the probe has fallen "
            "on one class"
        )
    absent = sorted({name for names in part.classes_absent_from_test for name in names})
    if absent:
        yield f"some test part lacks {', '.join(absent)}, which counts as 0 in macro-F1"
    if own.num_unconverged_fits:
        yield f"{own.num_unconverged_fits} fits stopped at the bound of iterations"
    for metric, reason in own.undefined.items():
        yield f"{metric} has no value {reason}"
