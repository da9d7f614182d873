"""Numbers of a step in; TensorBoard, JSONL and terminal out, with words for each curve.

This package must not know what the numbers mean to the training, only what they should look like.
"""

from pretrain.metrics.curves import replace_curves
from pretrain.metrics.journal import ENERGY_FILE, HEALTH_FILE, Journal
from pretrain.metrics.sinks import JsonlSink, Sink, Sinks, TerminalSink
from pretrain.metrics.tensorboard import TensorBoardSink

__all__ = [
    "ENERGY_FILE",
    "HEALTH_FILE",
    "Journal",
    "JsonlSink",
    "Sink",
    "Sinks",
    "TensorBoardSink",
    "TerminalSink",
    "replace_curves",
]
