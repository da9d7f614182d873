"""How a checkpoint is probed, and how a report says so."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from eval.card import TaskCard
from eval.comparison import MIN_SEEDS_FOR_A_VERDICT
from eval.probes.attentive import AttentiveConfig
from eval.probes.contents import Copies
from eval.probes.equal_words import EQUAL_WORDS_LEFT_OUT
from eval.probes.few_shot import FewShotConfig
from eval.probes.knn_probe import KnnProbeConfig
from eval.probes.linear_probe import LinearProbeConfig
from eval.probes.other_probes import Kind, OtherProbes
from eval.probes.probe_report import OTHERS
from eval.probes.problems import Grids, Rows
from eval.probes.regression import RidgeConfig
from eval.regression_metrics import CUT_RULES
from eval.representations import SUBSETS, refuse_unknown
from eval.samples import UNIT_KEY
from eval.splits import SplitConfig


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """How a checkpoint is probed; the same for it and for its floors."""

    splits: SplitConfig = field(default_factory=SplitConfig)
    linear: LinearProbeConfig = field(default_factory=LinearProbeConfig)
    ridge: RidgeConfig = field(default_factory=RidgeConfig)
    num_random_backbones: int = 3
    """Fresh backbones of the same architecture (seeds 0, 1, ...) that make the random floor."""
    batch_size: int = 64
    """Samples of one forward pass."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where features are made; `auto` takes a GPU when there is one."""
    representations: tuple[str, ...] = SUBSETS
    """What is probed: `text`, `image`, `audio`, `fused` (whatever a sample has), or the fusion of
    exactly some modalities: `fused_text`, `fused_text_image`, ..."""
    rows: Rows = "own"
    """`own`: each is probed on all samples that it can be read from; `shared`: only on samples
    that have every modality of the task, so that representations can be compared."""
    copies: Copies = "refuse"
    """Samples whose picture, recording or (of texts alone) words lie on two sides of a split:
    `refuse` lists them; `drop` leaves them out of the earlier part, of training before validation
    before test, and the report counts them. Representations that read text alone also meet equal
    words beside other pictures and recordings: `refuse` only tells of these, `drop` leaves them
    out there."""
    fit_workers: int = 1
    """Processes that fit classifiers; scores do not depend on it."""
    keep_features: bool = True
    """Keep features in `RUN/features`, so that another question of this checkpoint, and the random
    floor of the next one, need no pass over the shards."""
    also: tuple[Kind, ...] = ()
    """Other probes of the same features and splits: `knn` (nearest training samples), `attentive`
    (a learned query over the encoders' tokens), `few-shot` (the linear probe with few labels)."""
    knn: KnnProbeConfig = field(default_factory=KnnProbeConfig)
    attentive: AttentiveConfig = field(default_factory=AttentiveConfig)
    few_shot: FewShotConfig = field(default_factory=FewShotConfig)

    def __post_init__(self) -> None:
        refuse_unknown(self.representations, "probe.representations")
        if len(set(self.also)) != len(self.also):
            raise ValueError(f"probe.also names a probe twice: {', '.join(self.also)}")
        if self.fit_workers < 1:
            raise ValueError(f"probe.fit_workers must be at least 1, got {self.fit_workers}")
        if self.num_random_backbones < 1:
            raise ValueError(
                f"probe.num_random_backbones must be at least 1, got {self.num_random_backbones}"
            )
        if self.batch_size < 1:
            raise ValueError(f"probe.batch_size must be at least 1, got {self.batch_size}")

    @property
    def grids(self) -> Grids:
        """What validation chooses from."""
        return Grids(linear=self.linear, ridge=self.ridge)

    @property
    def others(self) -> OtherProbes:
        """What is asked besides the linear probe."""
        return OtherProbes(
            kinds=self.also, knn=self.knn, attentive=self.attentive, few_shot=self.few_shot
        )


def describe_protocol(config: ProbeConfig, card: TaskCard) -> dict[str, Any]:
    """All that must be equal for two reports to be compared; the device is left out.

    What is probed is told where it is not the usual: older reports do not have it.
    """
    usual = config.representations == SUBSETS and config.rows == "own"
    chosen = {} if usual else {"representations": config.representations, "rows": config.rows}
    if config.copies == "drop":
        chosen |= {"copies": "drop", "equal_words": EQUAL_WORDS_LEFT_OUT}
    described = chosen | {
        "splits": _splits(config.splits, card),
        **_learner(config, card),
        "num_random_backbones": config.num_random_backbones,
        "standardisation": "mean and deviation of the training part",
        "random_floor": "scores averaged over fresh backbones, split by split; batch-norm "
        "statistics, where there are any, recomputed on the task's unlabelled inputs",
        "shuffled_floor": "labels permuted within training and within validation",
        "tfidf_floor": "character n-grams 1-4, fitted on the training part",
        "interval": _interval(card),
    }
    described |= {OTHERS: _others(config)} if config.also else {}
    return json.loads(json.dumps(described))


def _splits(config: SplitConfig, card: TaskCard) -> dict[str, Any]:
    """Of the authors' parts: how many training draws, and of what share."""
    if card.fixed_parts is not None:
        return {
            "num_splits": config.num_seeds,
            "seed": config.seed,
            "train_share": config.train_share,
            "fixed_parts": card.fixed_parts,
            "varies": _varies(config),
        }
    fixed_only = ("num_seeds", "train_share")
    return {key: value for key, value in asdict(config).items() if key not in fixed_only}


def _varies(config: SplitConfig) -> str:
    if config.train_share == 1.0:
        return "nothing: each seed trains on the whole training part; there is no verdict"
    return (
        "the draw of the training groups, in the random floor the backbone as well; "
        f"equal draws count once, and fewer than {MIN_SEEDS_FOR_A_VERDICT} give no verdict"
    )


def _learner(config: ProbeConfig, card: TaskCard) -> dict[str, Any]:
    read_once = "test is read once per " + ("training draw" if card.fixed_parts else "split")
    if card.class_cuts is not None:
        return {
            "ridge": asdict(config.ridge),
            "regressor": "ridge regression in closed form; predictions clipped to the label range",
            "selection": f"mean absolute error on the validation part; {read_once}",
            "late": "mean of the single modalities' predictions, over the modalities that a sample "
            "has; given where two modalities or more are probed",
            "class_cuts": CUT_RULES[card.class_cuts],
            "constant_floor": "mean label of the training part",
        }
    return {
        "linear": asdict(config.linear),
        "classifier": "multinomial logistic regression (scikit-learn, L2)",
        "selection": f"macro-F1 on the validation part; {read_once}",
        "late": "even vote of the single modalities' probes with their class probabilities, "
        "over the modalities that a sample has; given where two modalities or more are probed",
        "macro_f1": "over the fixed label set; a class absent from test counts as 0",
    }


def _others(config: ProbeConfig) -> dict[str, Any]:
    """The other probes, by kind, as they were asked for."""
    told = {
        "knn": {
            **asdict(config.knn),
            "votes": "nearest samples of the training part by cosine of standardised features, "
            "weighted by exp(cosine / temperature); of numbers their weighted mean",
        },
        "attentive": {
            **asdict(config.attentive),
            "reads": "the encoders' tokens, standardised; of a fused representation those of all "
            "encoders that it reads, without the fusion; one fresh backbone is the random floor",
            "selection": "learning rate and epoch on the validation part",
        },
        "few-shot": {
            **asdict(config.few_shot),
            "draws": "one for each split, class by class; the validation part stays whole, so "
            "selection sees more labels than training",
            "interval": "where splits are random, corrected by n_test/n_learn of the whole "
            "splits: few draws overlap less, so it is rather too wide",
        },
    }
    return {kind: told[kind] for kind in sorted(config.also)}


def _interval(card: TaskCard) -> str:
    if card.fixed_parts is not None:
        whole = card.group_key is not None
        resampled = "groups" if whole else f"metadata.{UNIT_KEY}, which the parts may cut,"
        return (
            f"95 % percentiles over resampled {resampled} of the one test part, scores averaged "
            "over training draws; differences over the same resamples; none of the calibration "
            "error"
        )
    return (
        "95 % t interval over splits; variance times 1/J + n_test/n_learn "
        "(Nadeau and Bengio 2003), because splits overlap; n_learn is training plus validation"
    )
