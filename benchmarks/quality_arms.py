"""Training the arms, each a run of its own in its own folder; a finished one is found again."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from quality_recipe import ARMS, Length, arm_config

from launch.local import run_local
from launch.run_config import RunConfig, prepare_run
from pretrain.checkpoint import newest_complete


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One arm and seed, and the folder of its run."""

    arm: str
    seed: int
    run: Path

    @property
    def name(self) -> str:
        """As in ``full-0``."""
        return f"{self.arm}-{self.seed}"

    @property
    def backbone(self) -> Path:
        """The target network's backbone at the newest checkpoint."""
        checkpoint = newest_complete(self.run)
        assert checkpoint is not None, f"{self.run} has no checkpoint"
        return checkpoint.backbone


def planned(out: Path, arms: Sequence[str], most_seeds: int) -> Iterator[Trained]:
    """Every run of the chosen arms: the first seeds of all before the further seeds of any."""
    for seed in range(most_seeds):
        for arm in arms:
            if seed < ARMS[arm].seeds:
                yield Trained(arm=arm, seed=seed, run=out / "runs" / f"{arm}-{seed}")


def train_arm(trained: Trained, blend: Path, length: Length) -> None:
    """As `train`, of an arm and seed."""
    arm = ARMS[trained.arm]
    train(arm_config(arm, trained.seed, blend.absolute(), trained.run.absolute(), length))


def train(config: RunConfig) -> None:
    """Train a run to its end, or go on with it where it was killed.

    Raises:
        ValueError: The folder holds a run of another recipe or length.
        RuntimeError: The ranks failed.
    """
    run = config.run
    newest = newest_complete(run) if run.exists() else None
    if newest is None and run.exists():
        shutil.rmtree(run)  # killed before its first checkpoint: it begins anew
    prepare_run(config, resume=newest is not None)
    if newest is not None and newest.step >= config.pretrain.total_steps:
        return
    print(f"{run.name}: from step {newest.step if newest else 0}", flush=True)
    if code := run_local(run, config.ranks):
        raise RuntimeError(f"{run}: the ranks ended with code {code}; start it again")
