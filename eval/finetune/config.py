"""How a backbone is fine-tuned."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

OptimizerName = Literal["adamw", "adagrad", "sgd", "nesterov"]
Balance = Literal["none", "loss", "sampler"]
LossName = Literal["cross_entropy", "soft_f1", "l1"]


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig:
    """How a backbone and a linear head on one of its representations learn a task together.

    The defaults are for a backbone of a few million weights and about 2,000 samples.
    """

    optimizer: OptimizerName = "adamw"
    """`adamw` (Loshchilov & Hutter 2019); `adagrad` (Duchi et al. 2011); `sgd` with momentum;
    `nesterov`, the same with Nesterov's momentum. The learning rates below suit adamw; others want
    their own, such as 1e-2 for backbone and head with nesterov, 1e-3 and 1e-2 with adagrad."""

    backbone_lr: float = 3e-4
    """Peak learning rate of the encoders that are read, and of the fusion where that is read; 0
    leaves the backbone as it is."""

    head_lr: float = 1e-3
    """Peak learning rate of the linear head."""

    weight_decay: float = 0.05
    """Decay of matrices; biases, gains of norms and other vectors are left out. Decoupled from the
    gradient for adamw, added to it for the others."""

    warmup_fraction: float = 0.1
    """Share of all steps spent on linear warm-up of both learning rates, in [0, 1); a half cosine
    to 0 follows."""

    max_gradient_norm: float | None = 1.0
    """Gradient norm of backbone and head together above which gradients are scaled down; None
    scales none."""

    momentum: float = 0.9
    """Of sgd and nesterov, in [0, 1)."""

    dropout: float = 0.1
    """Share of the representation's entries that are set to 0 before the head, in [0, 1)."""

    modality_dropout: float = 0.0
    """Chance of each modality that a training sample has to be left out of a step, in [0, 1); one
    is always left. Of fusions alone: they so learn to answer from whatever there is."""

    batch_size: int = 32
    """Samples of one step."""

    epochs: int = 10
    """Passes over the training part; the one that validation likes best is kept."""

    balance: Balance | None = None
    """What is done about classes of unequal size. `loss`: each sample weighs by the inverse of its
    class's frequency in the training part; `sampler`: samples are drawn by it, with replacement;
    `none`. If not given: loss for cross_entropy, else none."""

    loss: LossName | None = None
    """`cross_entropy`; `soft_f1`: 1 - macro F1 of probabilities in place of counts (Bénédict et al.
    2022); `l1`: absolute error, for labels that are numbers. If not given: cross_entropy for
    classes, l1 for numbers."""

    label_smoothing: float = 0.0
    """Of cross_entropy, in [0, 1): this share of the target is spread over all classes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU when there is one."""

    def __post_init__(self) -> None:
        for name in ("backbone_lr", "head_lr", "weight_decay"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"finetune.{name} must be at least 0, got {getattr(self, name)}")
        for name in (
            "warmup_fraction",
            "momentum",
            "dropout",
            "modality_dropout",
            "label_smoothing",
        ):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"finetune.{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"finetune.{name} must be at least 1, got {getattr(self, name)}")
        if self.head_lr == 0.0:
            raise ValueError("finetune.head_lr must be above 0: the head starts from nothing")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0.0:
            raise ValueError(
                f"finetune.max_gradient_norm must be positive, got {self.max_gradient_norm}"
            )
        if self.optimizer == "nesterov" and self.momentum == 0.0:
            raise ValueError("finetune.optimizer nesterov needs a positive finetune.momentum")

    def for_labels(self, numbers: bool) -> "FineTuneConfig":
        """The same with loss and balance chosen, for labels that are classes or numbers.

        Raises:
            ValueError: An option that such labels, or such a loss, have no use for; names it.
        """
        loss = self.loss or ("l1" if numbers else "cross_entropy")
        if numbers != (loss == "l1"):
            labels = "numbers" if numbers else "classes"
            raise ValueError(f"finetune.loss {loss} is of no use here: the labels are {labels}")
        balance = self.balance or ("loss" if loss == "cross_entropy" else "none")
        if numbers and balance != "none":
            raise ValueError(f"finetune.balance {balance}: labels that are numbers have no classes")
        if loss == "soft_f1" and balance == "loss":
            raise ValueError("finetune.balance loss: soft_f1 weighs all classes alike already")
        if self.label_smoothing and loss != "cross_entropy":
            raise ValueError(f"finetune.label_smoothing is for cross_entropy, not for {loss}")
        return replace(self, loss=loss, balance=balance)


def describe(config: FineTuneConfig) -> Mapping[str, Any]:
    """All of it that scores may depend on: the device is left out.

    Modality dropout is told where there is any: older reports do not have it.
    """
    untold = {"device"} if config.modality_dropout else {"device", "modality_dropout"}
    return {name: value for name, value in asdict(config).items() if name not in untold}
