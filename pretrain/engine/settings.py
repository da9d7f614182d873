"""What DeepSpeed's JSON is derived from."""

from dataclasses import dataclass
from typing import Any, Literal

from pretrain.memory import BUCKET_ENTRIES


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What DeepSpeed's JSON is derived from; never written by hand."""

    micro_samples: int
    accumulation_steps: int
    max_gradient_norm: float | None
    precision: Literal["fp32", "bf16"]
    zero_stage: Literal[0, 1, 2, 3]

    @property
    def bare(self) -> bool:
        """Whether DeepSpeed steps the optimizer itself, with no wrapper that checks gradients."""
        return self.zero_stage == 0 and self.precision == "fp32"

    @property
    def replicated(self) -> bool:
        """Whether every rank holds the whole float32 weights after a step."""
        return self.zero_stage == 0 or (self.zero_stage < 3 and self.precision == "fp32")

    def to_deepspeed(self, world_size: int, num_trained: int) -> dict[str, Any]:
        """The configuration that ``deepspeed.initialize`` takes.

        Args:
            world_size: Number of ranks.
            num_trained: Entries of all trained parameters.
        """
        return {
            "train_batch_size": self.micro_samples * self.accumulation_steps * world_size,
            "train_micro_batch_size_per_gpu": self.micro_samples,
            "gradient_accumulation_steps": self.accumulation_steps,
            # Where it steps the optimizer bare, `Engine` clips: it needs the norm anyway.
            "gradient_clipping": 0.0 if self.bare else self.max_gradient_norm or 0.0,
            "zero_optimization": {
                "stage": self.zero_stage,
                "reduce_bucket_size": max(1, min(num_trained, BUCKET_ENTRIES)),
            },
            # It skips a step whose gradient is not finite.
            "bf16": {"enabled": self.precision == "bf16", "check_grad_overflow": True},
            "steps_per_print": None,
        }
