"""The only door to DeepSpeed: process group, ZeRO, optimizer step, and its state on disk.

In: a module, its optimizer, and the settings; out: applied steps, and the float32 masters in
fragments. This package must not know: the objective, the target network, the data.
"""

from pretrain.engine.engine import STATE_FOLDER, Engine
from pretrain.engine.process_group import join_process_group, leave_process_group
from pretrain.engine.settings import EngineSettings

__all__ = [
    "STATE_FOLDER",
    "Engine",
    "EngineSettings",
    "join_process_group",
    "leave_process_group",
]
