"""Signals and stop rules: what a falling loss alone does not tell.

Embeddings, losses and weights of a step in; signals by name, and a verdict in plain words out.
This package must not know the optimizer, the ranks, the trainer or the probes.
"""

from pretrain.health.config import HealthConfig, HealthThresholds
from pretrain.health.gradients import GradientProbe
from pretrain.health.monitor import HealthMonitor, WatchedRun, load_looks
from pretrain.health.signals import effective_rank, embedding_std
from pretrain.health.verdict import Finding, Verdict, last_healthy, load_verdict, save_verdict

__all__ = [
    "Finding",
    "GradientProbe",
    "HealthConfig",
    "HealthMonitor",
    "HealthThresholds",
    "Verdict",
    "WatchedRun",
    "effective_rank",
    "embedding_std",
    "last_healthy",
    "load_looks",
    "load_verdict",
    "save_verdict",
]
