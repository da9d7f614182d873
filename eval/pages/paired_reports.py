"""Two stored reports of one task against each other: may they be compared, and who wins?

Random splits are drawn from labels, groups and a seed alone, so reports of the same shards, card
and protocol hold scores of the same splits, and are paired split by split. Where a set's authors
fixed the parts, a report holds no predictions to resample together. Then the widest interval that
the two intervals allow is taken: ``sd(a - b) <= sd(a) + sd(b)`` however a and b move together, so
what lies outside of it would lie outside of the paired one too.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from eval.comparison import Interval, Summary, compare, summarise
from eval.pages.scored import Answer, Scored, command, why_open
from eval.regression_metrics import LOWER_IS_BETTER

LEVEL = 0.05
"""Below it a p value tells two apart."""
TELLS_NOTHING = ("format", "notes", "source", "licence", "split_rule")
"""Of a task's card: fields that no score depends on."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Gain of one report's representation over another's, on the task's metric.

    Attributes:
        gain: Over the same splits; turned round where less is better, so that above 0 is always
            better.
        p: Two-sided, of no difference; below 0.05 where the 95 % interval does not hold zero. None
            where there is no verdict.
        reason: Why there is no verdict, as `why_open`; empty where there is one.
    """

    gain: Summary
    p: float | None
    reason: str = ""


def why_not_comparable(one: Answer, other: Answer, name: str) -> str | None:
    """What differs between two that a representation's score depends on; None if nothing."""
    told = list(_differences(one, other, name))
    return "; ".join(told) if told else None


def pair(card: Mapping[str, Any], one: Scored, other: Scored) -> Paired:
    """How much better ``one`` is; both were scored on the same splits of the same samples.

    Args:
        card: The metric that decides, and whether the set's authors fixed the parts.
        one: A representation.
        other: The same of another report, or another one of the same.
    """
    sign = -1 if card["metric"] in LOWER_IS_BETTER else 1
    if card.get("fixed_parts"):
        return _pair_fixed((one, other), sign)
    return _pair_splits((one, other), sign)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for their number; those that are None are none of them.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
    Journal of Statistics 6: times the number of hypotheses not yet rejected, made to ascend.
    """
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * value))
        corrected[place] = highest
    return corrected


def _differences(one: Answer, other: Answer, name: str) -> Iterator[str]:
    fields = _unequal(one.card, other.card, TELLS_NOTHING)
    if fields:
        yield f"other cards ({', '.join(fields)})"
    if one.shards != other.shards:
        digests = " and ".join(answer.shards[:8] for answer in (one, other))
        again = command(one.method, "RUN", "FOLDER")
        yield f"other shards ({digests}): measure both on one task folder ({again})"
    asked = _unequal(one.depends_on(name), other.depends_on(name))
    if asked:
        yield f"other protocols ({', '.join(asked)})"
    parts = one.scored[name], other.scored[name]
    if parts[0].reads != parts[1].reads:
        yield f"other modalities ({' and '.join('+'.join(part.reads) for part in parts)})"
    if not fields and not asked and parts[0].split_sizes != parts[1].split_sizes:
        yield "other splits (their parts have other sizes)"


def _unequal(
    one: Mapping[str, Any], other: Mapping[str, Any], but: Sequence[str] = ()
) -> list[str]:
    """Keys of what differs, or is in one alone."""
    keys = {*one, *other} - {*but}
    return sorted(key for key in keys if one.get(key) != other.get(key))


def _pair_fixed(parts: tuple[Scored, Scored], sign: int) -> Paired:
    """First minus second on one fixed test part, with the widest interval there can be."""
    pairs = zip(*(part.score.per_split for part in parts), strict=True)
    plain = summarise([sign * (first - second) for first, second in pairs], 0.0)
    gain = replace(plain, interval=_widest(parts, sign), interval_uncorrected=None)
    for part in parts:
        if part.unjudged:
            return Paired(gain=gain, p=None, reason=part.unjudged)
    if gain.interval is None:
        return Paired(gain=gain, p=None, reason="a score has no interval")
    return Paired(gain=gain, p=_p_of_interval(gain.mean, gain.interval))


def _widest(parts: Sequence[Scored], sign: int) -> Interval | None:
    first, second = (part.score.interval for part in parts)
    if first is None or second is None:
        return None
    ends = sign * (first.low - second.high), sign * (first.high - second.low)
    return Interval(low=min(ends), high=max(ends))


def _pair_splits(parts: tuple[Scored, Scored], sign: int) -> Paired:
    """First minus second over the same random splits, with the corrected t interval."""
    first, second = ([sign * value for value in part.score.per_split] for part in parts)
    share = _test_share(parts[0])
    found = compare(first, second, share)
    if found.beats is None:
        return Paired(gain=found.difference, p=None, reason=why_open(found))
    return Paired(gain=found.difference, p=_p_of_t(found.difference, share))


def _test_share(part: Scored) -> float:
    """Mean of ``n_test / n_learn`` over splits, as `eval.comparison` takes it."""
    shares = [
        sizes["test"] / max(sizes["train"] + sizes["validation"], 1) for sizes in part.split_sizes
    ]
    return float(np.mean(shares))


def _p_of_t(difference: Summary, share: float) -> float:
    """Of the t test whose 95 % interval `eval.comparison.compare` gives."""
    count = len(difference.per_split)
    assert difference.sd is not None
    error = difference.sd * math.sqrt(1.0 / count + share)
    if error == 0.0:
        return 1.0 if difference.mean == 0.0 else 0.0
    return float(2.0 * stats.t.sf(abs(difference.mean) / error, count - 1))


def _p_of_interval(mean: float, span: Interval) -> float:
    """Of a normal one with that 95 % interval: its half on the side of zero tells the error."""
    half = mean - span.low if mean > 0.0 else span.high - mean
    if half <= 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2.0 * stats.norm.sf(abs(mean) / half * stats.norm.ppf(0.975)))
