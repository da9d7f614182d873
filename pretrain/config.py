"""The configuration of a pretraining run: composes the parts' own, checks what spans two."""

import dataclasses
import difflib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from data_sharding.logmel import LogMelConfig
from data_sharding.stats import stats_folder
from data_sharding.storage import is_remote
from data_sharding.stream.loader import LoaderConfig
from pretrain.checkpoint import MIN_KEPT, CheckpointConfig
from pretrain.ema import EmaConfig
from pretrain.health import HealthConfig
from pretrain.kernels import Kernels, check_pictures, require
from pretrain.models import BackboneConfig
from pretrain.objectives import AdversarialConfig, AutoencoderConfig, ByolConfig
from pretrain.optim import OptimConfig
from pretrain.views import ViewsConfig, blur_side

Config = TypeVar("Config")

MAX_SEED = 2**63


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Samples per optimizer step, and how a rank cuts its share."""

    global_samples: int = 64
    """Samples of one optimizer step over all ranks."""

    micro_samples: int | None = None
    """Samples of one forward pass on one rank; None is the rank's whole share."""

    def __post_init__(self) -> None:
        for name in ("global_samples", "micro_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"batch.{name} must be positive, got {value}")

    def micro_for(self, world_size: int) -> int:
        """Samples of one forward pass.

        Raises:
            ValueError: the ranks do not divide the global batch, or micro_samples does not
                divide a rank's share; names the nearest values that fit.
        """
        share, rest = divmod(self.global_samples, world_size)
        if rest or not share:
            nearest = [n * world_size for n in (share, share + 1) if n]
            raise ValueError(
                f"batch.global_samples {self.global_samples} is not a multiple of the "
                f"{world_size} ranks; the nearest: {' and '.join(map(str, nearest))}"
            )
        micro = self.micro_samples or share
        if share % micro:
            raise ValueError(
                f"batch.micro_samples {micro} does not divide a rank's share of {share} samples; "
                f"the nearest that does: {_nearest(_divisors(share), micro)}"
            )
        return micro


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which shards are read, and how."""

    shards: str
    """A shard set (`triptych shard`), indexed tars (`triptych index`) or a blend of sets
    (`triptych blend`): a folder or a URL such as s3://bucket/shards."""

    stats: Path | None = None
    """Folder made by `triptych stats`; None is `stats` inside `shards`."""

    split: str = "train"
    """Split to learn from."""

    loader: LoaderConfig = field(default_factory=LoaderConfig)

    @property
    def stats_folder(self) -> Path:
        """Vocabulary and statistics of the data.

        Raises:
            ValueError: the shards are remote and `stats` is not given.
        """
        return stats_folder(self.shards, self.stats)

    def with_absolute_paths(self) -> "DataConfig":
        """The same data, whatever folder it is read from."""
        shards = self.shards if is_remote(self.shards) else str(Path(self.shards).absolute())
        reader = self.loader.reader
        cache = reader.cache_folder and reader.cache_folder.absolute()
        loader = replace(self.loader, reader=replace(reader, cache_folder=cache))
        stats = self.stats and self.stats.absolute()
        return replace(self, shards=shards, stats=stats, loader=loader)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Everything that decides the weights of a run, and where it is written."""

    data: DataConfig
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)

    objective: Literal["byol", "autoencoder", "adversarial"] = "byol"
    """What is minimised; the options below of the same name are its own."""

    byol: ByolConfig = field(default_factory=ByolConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)

    total_steps: int = 1000
    """Optimizer steps of the whole run; learning rate and tau depend on it."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Dtype of the working weights; the optimizer's and the target's masters are float32."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """What the ranks share out (DeepSpeed ZeRO): 0 nothing, 1 the optimizer's state, 2 gradients
    too, 3 weights too. The target's float32 masters are shared out at 3, and in bf16 from 1 on; a
    checkpoint can be resumed at another stage and on other ranks."""

    compile: Literal["off", "encoders", "all"] = "off"
    """What torch.compile makes faster; the first steps then take minutes. `all`: the encoders, and
    the views of sound, on a GPU alone."""

    kernels: Kernels | None = None
    """`fused`: the Triton kernels of loss, views, target and LARS, which need a GPU; `reference`:
    their plain twins, to compare with. None is fused on a GPU and reference on a CPU."""

    activation_checkpointing: Literal["off", "encoders"] = "off"
    """Whose activations are computed again in the backward pass instead of kept: less memory for
    about a third more time."""

    checkpoint_every_steps: int = 200
    """Steps between two checkpoints; the last step always makes one."""

    keep_checkpoints: int | None = None
    """Newest checkpoints kept, 2 or more; older ones are removed. None keeps all."""

    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    log_every_steps: int = 10
    """Steps between two lines of metrics."""

    evaluate_every_steps: int | None = None
    """Steps between two tables of embeddings for TensorBoard's projector, and between two scores
    of the online kNN, if one is named; a multiple of log_every_steps. None is never."""

    max_skipped_in_a_row: int = 3
    """Batches in a row whose loss or gradient is not finite: so many stop the run. A single one is
    passed over: no weight, moment or target changes, and the next batch takes the same step."""

    health: HealthConfig = field(default_factory=HealthConfig)

    seed: int = 0
    """Of the initial weights and the views; the sample order has its own in data.loader."""

    def __post_init__(self) -> None:
        for name in (
            "total_steps",
            "checkpoint_every_steps",
            "keep_checkpoints",
            "log_every_steps",
            "evaluate_every_steps",
            "max_skipped_in_a_row",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"pretrain.{name} must be positive, got {value}")
        if self.keep_checkpoints is not None and self.keep_checkpoints < MIN_KEPT:
            raise ValueError(
                f"pretrain.keep_checkpoints must be at least {MIN_KEPT}, got "
                f"{self.keep_checkpoints}: the newest may turn out to be damaged"
            )
        if self.optim.optimizer == "lars" and self.zero_stage != 0:
            raise ValueError(
                f"optim.optimizer lars needs zero_stage 0, got {self.zero_stage}: it takes norms "
                "layer by layer, and ZeRO's flat partitions have no layers"
            )
        self._refuse_unlogged("evaluate_every_steps", self.evaluate_every_steps)
        self._refuse_unlogged("health.every_steps", self.health.every_steps)
        if not 0 <= self.seed < MAX_SEED:
            raise ValueError(f"pretrain.seed must be in [0, 2^63), got {self.seed}")

    def check_ranks(self, world_size: int) -> None:
        """Whether so many ranks can share a batch.

        Raises:
            ValueError: they cannot; with what would fit.
        """
        micro = self.batch.micro_for(world_size)
        if self.objective == "byol" and self.byol.heads.norm == "batch":
            self._check_cohorts(world_size, micro)
        # One rank's micro-batches follow one another; those of several take turns.
        self.views.audio.check_share(self.batch.global_samples if world_size == 1 else micro)

    def _check_cohorts(self, world_size: int, micro: int) -> None:
        """Samples that share batch statistics must be in one forward pass of all ranks."""
        cohort = self.byol.heads.cohort_samples(self.batch.global_samples)
        together = world_size * micro
        if cohort > 1 and together % cohort == 0:
            return
        share = self.batch.global_samples // world_size
        micros = [d for d in _divisors(share) if cohort > 1 and d * world_size % cohort == 0]
        ways = [f"batch.micro_samples to {_nearest(micros, micro)}"] if micros else []
        if cohorts := [d for d in _divisors(together) if d > 1]:
            ways += [f"byol.heads.norm_samples to {_nearest(cohorts, cohort)} (other losses)"]
        raise ValueError(
            f"batch norm in the heads needs whole cohorts of byol.heads.norm_samples ({cohort}; "
            f"2 or more) among the {together} samples that the ranks take at a time: set "
            f"{', or '.join([*ways, 'byol.heads.norm to layer'])}"
        )

    def check_spectrogram(self, log_mel: LogMelConfig) -> None:
        """Whether the clips of views and evaluation have the frames that the encoder needs.

        Raises:
            ValueError: too few, or more than have a position.
        """
        audio = self.backbone.audio
        audio.check_spectrogram(log_mel)
        audio.check_frames(self.views.audio.crop_seconds, log_mel, "views.audio.crop_seconds")

    def check_kernels(self, on_gpu: bool) -> None:
        """Whether what the run has compiled is there, and is for its device and its pictures.

        Raises:
            ValueError: they are not.
        """
        require(self.kernels, on_gpu)
        if self.compile == "all" and not on_gpu:
            raise ValueError(
                "pretrain.compile all needs a GPU, and this run has none: compiled views of sound "
                "are no faster on a CPU; ask for encoders"
            )
        if self.kernels == "fused" or (self.kernels is None and on_gpu):
            pixels = self.backbone.image.size_pixels
            check_pictures(pixels, pixels, blur_side(pixels, self.views.image))

    def _refuse_unlogged(self, name: str, every: int | None) -> None:
        """What is measured at a step that is not logged would be seen by nobody."""
        if every is not None and every % self.log_every_steps:
            raise ValueError(
                f"pretrain.{name} must be a multiple of log_every_steps "
                f"({self.log_every_steps}), got {every}"
            )


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _nearest(values: list[int], wanted: int) -> int:
    return min(values, key=lambda value: abs(value - wanted))


def config_to_json(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """A dataclass as plain JSON values, paths as text."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def config_from_json(kind: type[Config], content: dict[str, Any], where: str) -> Config:
    """The dataclass ``kind`` that `config_to_json` wrote.

    Raises:
        ValueError: an unknown key at any depth (with a suggestion), a wrong type, or a value
            that its dataclass refuses; ``where`` is named.
    """
    _refuse_unknown(kind, content, where, "")
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {key}: {first['msg']}".replace(": :", ":")) from error


def _refuse_unknown(kind: Any, content: dict[str, Any], where: str, prefix: str) -> None:  # noqa: ANN401
    hints = get_type_hints(kind)
    for key, value in content.items():
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            raise ValueError(f"{where}: unknown key {prefix}{key}{hint}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, dict):
            _refuse_unknown(hints[key], value, where, f"{prefix}{key}.")
