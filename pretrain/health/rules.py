"""Stop rules: pure functions from the looks so far to findings in plain words."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pretrain.health.config import HealthConfig
from pretrain.health.trend import intra_rises_while_cross_falls
from pretrain.health.verdict import Finding

GRACE_AT_END = 0.9
"""Share of the run after which a target that stands still is no finding: tau rises to 1."""


@dataclass(frozen=True)
class Look:
    """The signals of one step."""

    step: int
    progress: float
    """Share of the run that is done, in (0, 1]."""
    signals: Mapping[str, float]


@dataclass(frozen=True)
class Past:
    """The looks so far, the newest last, as the rules read them."""

    looks: Sequence[Look]
    config: HealthConfig

    def recent(self, name: str, judged_from: int = 0) -> list[float]:
        """The values of a signal at the last `patience` looks; empty unless all have it.

        Args:
            name: Of the signal.
            judged_from: Looks of earlier steps do not count.
        """
        last = self.looks[-self.config.patience :]
        values = [look.signals[name] for look in last if name in look.signals]
        old_enough = len(last) == self.config.patience and last[0].step > judged_from
        return values if old_enough and len(values) == len(last) else []

    def names(self, pattern: str) -> list[tuple[str, str]]:
        """Names of the newest look that match, and what the pattern's group caught."""
        found = ((name, re.fullmatch(pattern, name)) for name in self.looks[-1].signals)
        return [(name, match.group(1)) for name, match in found if match]


Rule = Callable[[Past], list[Finding]]


def embeddings_are_one_point(past: Past) -> list[Finding]:
    """Std of projections and predictions per source (data2vec's bounds: 0.1 and 0.01)."""
    bounds = past.config.thresholds
    stages = {
        "projector": bounds.min_projection_std,
        "target": bounds.min_projection_std,
        "predictor": bounds.min_prediction_std,
    }
    findings = []
    for stage, least in stages.items():
        for name, source in past.names(rf"health/std_{stage}_(.+)"):
            values = past.recent(name, past.config.grace_steps)
            if values and max(values) < least:
                findings.append(
                    _stop(
                        "embeddings_are_one_point",
                        f"{source} has collapsed at the {stage}: the spread of its embeddings is "
                        f"{values[-1]:.3g} and should be above {least:g}, near 1 when healthy. "
                        "Check the predictor, lower the learning rate or the cross weight, and "
                        "start again from the last healthy checkpoint.",
                    )
                )
    return findings


def embeddings_lie_on_a_line(past: Past) -> list[Finding]:
    """RankMe of projections and of the target's, per source."""
    least, findings = past.config.thresholds.min_rank, []
    for name, source in past.names(r"health/rank_(?:projector|target)_(.+)"):
        values = past.recent(name, past.config.grace_steps)
        if values and max(values) < least:
            findings.append(
                _stop(
                    "embeddings_lie_on_a_line",
                    f"{source} uses {values[-1]:.2f} directions of its projections ({name}) and "
                    "should use many, at least several. Its dimensions have collapsed: lower the "
                    "learning rate, enlarge the batch, or start again with stronger views.",
                )
            )
    return findings


def modality_is_constant(past: Past) -> list[Finding]:
    """Two views of a sample are no more alike than two samples, at the encoder."""
    least, findings = past.config.thresholds.min_separation, []
    for name, source in past.names(r"health/separation_encoder_(text|image|audio)"):
        values = past.recent(name, past.config.grace_steps)
        if values and sum(values) / len(values) < least:
            mean = sum(values) / len(values)
            findings.append(
                _stop(
                    "modality_is_constant",
                    f"{source} is constant: two views of one sample are no more alike than views "
                    f"of two samples (separation {mean:.2f}, should be above {least:g}, usually "
                    f"0.3 to 0.9). Look at the {source} of some samples (triptych inspect), then "
                    "at its views: the input is probably empty, or the same for every sample.",
                )
            )
    return findings


def target_never_moves(past: Past) -> list[Finding]:
    """The target stands still while the online network is elsewhere, before tau nears 1."""
    values = past.recent("health/target_step")
    if not values or max(values) > 1e-9 or past.looks[-1].progress > GRACE_AT_END:
        return []
    return [
        _stop(
            "target_never_moves",
            "The target network never moves, though the online network does: tau is 1, or the "
            "target is not updated. It should take the share 1 - tau of the way at each step. Set "
            "ema.base_tau below 1 and start again.",
        )
    ]


def target_loses_updates(past: Past) -> list[Finding]:
    """What the target did is not what tau asks for: a target in low precision."""
    most = past.config.thresholds.max_target_error
    values = past.recent("health/target_error")
    if not values or min(values) <= most:
        return []
    return [
        _stop(
            "target_loses_updates",
            f"The target network misses {100 * values[-1]:.0f} % of its update at a step and "
            "should miss under 1 %: its weights are kept in bfloat16, which rounds small changes "
            "away, or something else writes to them. Keep the target's masters in float32 and "
            "start again from the last healthy checkpoint.",
        )
    ]


def weights_run_away(past: Past) -> list[Finding]:
    """Steps that replace the weights, or an online network far from its target."""
    bounds, findings = past.config.thresholds, []
    words = {
        "update": ("one step changes", bounds.max_update, "under 0.01"),
        "drift": ("online and target differ by", bounds.max_drift, "under 0.3"),
    }
    for signal, (what, most, healthy) in words.items():
        for name, tower in past.names(rf"health/{signal}_(.+)"):
            values = past.recent(name)
            if values and min(values) > most:
                findings.append(
                    _stop(
                        "weights_run_away",
                        f"The weights of {tower} run away: {what} {values[-1]:.2g} of their norm, "
                        f"healthy is {healthy}. The learning rate is too high: divide it by ten "
                        "and start again from the last healthy checkpoint.",
                    )
                )
    return findings


def loss_explodes(past: Past) -> list[Finding]:
    """The sum of the terms, or the gradient norm, is a multiple of what it was.

    The terms before their weights: these ramp up, and the total with them.
    """
    bounds, findings = past.config.thresholds, []
    advice = "Lower the learning rate, or clip gradients harder, and start again."
    terms = [name for name, _ in past.names("loss/(?!total)(.+)")]
    loss = [sum(values) for values in zip(*map(past.recent, terms), strict=True)]
    first = sum(past.looks[0].signals.get(name, math.inf) for name in terms)
    if loss and min(loss) > bounds.max_loss_growth * first > 0.0:
        findings.append(
            _stop(
                "loss_explodes",
                f"The terms of the loss add up to {loss[-1]:.3g} and began at {first:.3g}; they "
                f"should fall. {advice}",
            )
        )
    gradients = past.recent("gradient/norm")
    before = [
        look.signals["gradient/norm"]
        for look in past.looks[: -past.config.patience]
        if "gradient/norm" in look.signals
    ]
    if gradients and len(before) >= past.config.patience:
        usual = median(before)
        if min(gradients) > bounds.max_gradient_growth * usual > 0.0:
            findings.append(
                _stop(
                    "loss_explodes",
                    f"The gradient norm is {gradients[-1]:.3g} and was {usual:.3g} before; it "
                    f"should stay of one size. {advice}",
                )
            )
    return findings


def numbers_are_not_finite(past: Past) -> list[Finding]:
    """A NaN or infinite loss, gradient or change of weights, at a single look."""
    watched = ("loss/", "gradient/norm", "health/update_", "health/drift_")
    bad = [
        name
        for name, value in past.looks[-1].signals.items()
        if name.startswith(watched) and not math.isfinite(value)
    ]
    if not bad:
        return []
    return [
        _stop(
            "numbers_are_not_finite",
            f"{', '.join(sorted(bad)[:4])}: not a finite number. Start again from the last "
            "healthy checkpoint with a lower learning rate, in fp32 if this was bf16.",
        )
    ]


def cross_wins_over_intra(past: Past) -> list[Finding]:
    """A warning sign: intra losses rise for long while cross losses keep falling."""
    rise = intra_rises_while_cross_falls(
        [look.signals for look in past.looks if look.step > past.config.grace_steps],
        past.config.trend_looks,
    )
    if rise is None or rise < past.config.thresholds.min_intra_rise:
        return []
    return [
        _stop(
            "cross_wins_over_intra",
            f"The intra losses have risen by {100 * rise:.0f} % over the last "
            f"{past.config.trend_looks} looks while the cross losses fell; both should fall or "
            "stay. Features learned this way probe badly: lower byol.cross_weight, or ramp it "
            "later, and start again from the last healthy checkpoint.",
        )
    ]


def gradients_pull_apart(past: Past) -> list[Finding]:
    """A warning: intra and cross gradients of a tower point against each other."""
    findings = []
    for name, tower in past.names(r"gradient/cosine_intra_cross_(text|image|audio)"):
        values = past.recent(name, past.config.grace_steps)
        if values and max(values) < -0.5:
            findings.append(
                Finding(
                    rule="gradients_pull_apart",
                    severity="warn",
                    sentence=f"In the {tower} encoder, intra and cross terms pull against each "
                    f"other (cosine {values[-1]:.2f}; above -0.5 is usual). If its probe does not "
                    "improve, lower byol.cross_weight.",
                )
            )
    return findings


RULES: tuple[Rule, ...] = (
    numbers_are_not_finite,
    target_never_moves,
    target_loses_updates,
    weights_run_away,
    loss_explodes,
    modality_is_constant,
    embeddings_are_one_point,
    embeddings_lie_on_a_line,
    cross_wins_over_intra,
    gradients_pull_apart,
)


def judge(looks: Sequence[Look], config: HealthConfig) -> tuple[Finding, ...]:
    """What every rule finds in the looks so far; at least one look."""
    past = Past(looks, config)
    return tuple(finding for rule in RULES for finding in rule(past))


def _stop(rule: str, sentence: str) -> Finding:
    return Finding(rule=rule, severity="stop", sentence=sentence)
