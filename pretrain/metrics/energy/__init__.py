"""The machine's own energy counters in; mean watts and joules of a stretch of steps out.

This package must not know: what was trained, and who reads the numbers.
"""

from pretrain.metrics.energy.counter import KINDS, Counter, CounterError
from pretrain.metrics.energy.meter import EnergyMeter, MeteredRun
from pretrain.metrics.energy.sources import counters_of

__all__ = ["KINDS", "Counter", "CounterError", "EnergyMeter", "MeteredRun", "counters_of"]
