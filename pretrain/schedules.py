"""Step -> value. Pure functions, so that a resumed run needs no schedule state."""

import math


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


def warmup_cosine(step: int, total_steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warm-up to ``peak``, then a half cosine to 0 at ``total_steps``.

    The first step already moves: its value is ``peak / warmup_steps``.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * (1.0 + math.cos(math.pi * min(1.0, done))) / 2.0


def linear_ramp(step: int, start_step: int, ramp_steps: int) -> float:
    """0 before ``start_step``, 1 from ``start_step + ramp_steps`` on, linear between."""
    if step < start_step:
        return 0.0
    if ramp_steps == 0:
        return 1.0
    return min(1.0, (step - start_step + 1) / ramp_steps)
