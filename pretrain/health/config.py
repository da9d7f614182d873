"""When a run is looked at, and what counts as sick."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class HealthThresholds:
    """Bounds of the stop rules. Std is that of unit vectors times sqrt(embed): 1 is isotropic."""

    min_projection_std: float = 0.1
    """Of the online and the target projections of a modality (data2vec, arXiv 2202.03555, stops
    at a target variance of 0.1)."""

    min_prediction_std: float = 0.01
    """Of every prediction (data2vec's bound); a many-to-one prediction may be narrow."""

    min_rank: float = 1.5
    """RankMe of a modality's projections; 1 is a line."""

    min_separation: float = 0.1
    """Share of a modality's spread that tells samples apart (`separation`), mean over the
    patience. A constant input shows 0."""

    max_target_error: float = 0.1
    """Part of the target's expected change that may be missing; float32 shows under 0.01, a
    bfloat16 target over 0.3."""

    max_update: float = 0.05
    """Norm of one step's change over the norm of a tower's weights; healthy is under 0.01."""

    max_drift: float = 1.0
    """Norm of online minus target over the norm of a tower's target weights."""

    max_loss_growth: float = 2.0
    """Sum of the loss's terms, before their weights, over that of the first look."""

    max_gradient_growth: float = 100.0
    """Gradient norm over the median of the looks before."""

    min_intra_rise: float = 0.1
    """Share by which the intra loss must have risen, while cross falls, to count."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0.0:
                raise ValueError(
                    f"health.thresholds.{name} must be positive, got {getattr(self, name)}"
                )


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """How a run is watched, and what follows from a collapse."""

    every_steps: int | None = None
    """Steps between two looks, a multiple of log_every_steps; None looks at every logged step."""

    rows: int = 256
    """Samples of a rank's last micro-batch that signals are taken of, at most."""

    gradient_rows: int = 16
    """Samples for the gradient shares, which cost a forward and backward pass for each group of
    terms at each look; 0 leaves them out. At zero_stage 3 the ranks gather the weights for them,
    and each rank holds whole gradients for a moment."""

    grace_steps: int = 200
    """Steps in which embeddings are not judged: a fresh network's spread says nothing yet.
    Weights, gradients and numbers that are not finite are judged from the start."""

    patience: int = 5
    """Looks in a row at which a rule must hold."""

    trend_looks: int = 40
    """Looks, in four blocks, over which intra must rise and cross fall."""

    on_collapse: Literal["stop", "warn"] = "stop"
    """`stop`: save and end the run with an exit code of its own. `warn`: say it and go on.
    Checkpoints of a collapsed run are marked unfit to publish either way."""

    thresholds: HealthThresholds = field(default_factory=HealthThresholds)

    def __post_init__(self) -> None:
        for name, least in (
            ("every_steps", 1),
            ("rows", 2),
            ("gradient_rows", 0),
            ("grace_steps", 0),
            ("patience", 1),
            ("trend_looks", 8),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"health.{name} must be at least {least}, got {value}")
        if self.gradient_rows == 1:
            raise ValueError("health.gradient_rows must be 0 or at least 2, got 1")
