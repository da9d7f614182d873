"""Step -> value. Pure functions, so that a resumed run needs no schedule state."""

import math
from itertools import pairwise

TAU_PRESETS = ((40.0, 0.97), (100.0, 0.99), (300.0, 0.99), (1000.0, 0.996))
"""(epochs, base tau) at a global batch of `TAU_PRESET_BATCH`.

Source: the presets of DeepMind's code for Grill et al. 2020, arXiv 2006.07733.
"""

TAU_PRESET_BATCH = 4096

TAU_MEMORIES_PER_RUN = 10.0
"""A preset's target forgets at least this many times within a run."""


def ema_tau(step: int, total_steps: int, base_tau: float) -> float:
    """Share of the old target kept after optimizer step ``step``.

    ``1 - (1 - base_tau) (cos(pi k / K) + 1) / 2``: base_tau at step 0, 1 at the last step.

    Source: Grill et al. 2020, arXiv 2006.07733, section 3.3.

    Args:
        step: k, the optimizer steps already applied, in [0, total_steps].
        total_steps: K, all optimizer steps of the run.
        base_tau: tau at step 0, in [0, 1].
    """
    return 1.0 - (1.0 - base_tau) * (math.cos(math.pi * step / total_steps) + 1.0) / 2.0


def tau_for_length(epochs: float) -> float:
    """Base tau of a run of so many passes over its samples, at the presets' batch.

    `TAU_PRESETS` at their own lengths; between two, log(1 - tau) is linear in log(epochs); the
    first before them, the last after them.
    """
    for (shorter, low), (longer, high) in pairwise(TAU_PRESETS):
        if epochs < longer:
            share = math.log(max(epochs, shorter) / shorter) / math.log(longer / shorter)
            return 1.0 - (1.0 - low) ** (1.0 - share) * (1.0 - high) ** share
    return TAU_PRESETS[-1][1]


def scale_tau(tau: float, kappa: float) -> float:
    """Tau of the same target when the global batch is ``kappa`` times as large: ``tau ** kappa``.

    Source: Busbridge et al. 2023, "How to Scale Your EMA", arXiv 2307.13813, definition 1.2.
    """
    return tau**kappa


def longest_tau(total_steps: int) -> float:
    """The tau whose memory, ``1 / (1 - tau)`` steps, is a tenth of the run; 0 for ten or fewer."""
    return max(0.0, 1.0 - TAU_MEMORIES_PER_RUN / total_steps)


def preset_tau(num_samples: int, global_samples: int, total_steps: int) -> float:
    """Base tau by the run's length in epochs and its batch, never above `longest_tau`.

    A target that remembers more steps than the run has would stay at its random start.

    Args:
        num_samples: Samples of one epoch, at least 1.
        global_samples: Samples of one optimizer step.
        total_steps: All optimizer steps of the run.
    """
    epochs = total_steps * global_samples / num_samples
    tau = scale_tau(tau_for_length(epochs), global_samples / TAU_PRESET_BATCH)
    return min(tau, longest_tau(total_steps))


def warmup_cosine(
    step: int, total_steps: int, warmup_steps: int, peak: float, final: float = 0.0
) -> float:
    """Linear warm-up to ``peak``, then a half cosine to ``final`` at ``total_steps``.

    The first step already moves: its value is ``peak / warmup_steps``.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return half_cosine(step - warmup_steps, max(1, total_steps - warmup_steps), peak, final)


def half_cosine(step: int, total_steps: int, start: float, final: float) -> float:
    """``start`` at step 0, ``final`` from ``total_steps`` on, half a cosine between them."""
    done = min(1.0, step / total_steps)
    return final + (start - final) * (1.0 + math.cos(math.pi * done)) / 2.0


def linear_ramp(step: int, start_step: int, ramp_steps: int) -> float:
    """0 before ``start_step``, 1 from ``start_step + ramp_steps`` on, linear between."""
    if step < start_step:
        return 0.0
    if ramp_steps == 0:
        return 1.0
    return min(1.0, (step - start_step + 1) / ramp_steps)
