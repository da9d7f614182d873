"""Runs that are made sick on purpose: each must be caught by the rule that names its illness.

Real batches, step, engine, target and monitor; only the views are made once and gone through
again, which saves most of the time.
"""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from data_sharding.logmel import LogMel
from data_sharding.stats import CorpusStats
from data_sharding.stream.loader import TripleLoader
from data_sharding.stream.order import Slice
from data_sharding.stream.source import open_stream
from pretrain.ema import Target
from pretrain.engine import Engine, EngineSettings
from pretrain.health import GradientProbe, HealthConfig, HealthMonitor, WatchedRun
from pretrain.models import Backbone, HeadConfig
from pretrain.objectives import Byol, ByolConfig
from pretrain.optim import OptimConfig, build_optimizer
from pretrain.step import StepSettings, TrainStep
from pretrain.views import Augment, TrainCrops
from tiny import tiny_pretrain

BATCH, NUM_BATCHES = 32, 8
HEADS = HeadConfig(hidden_size=64, embed_dim=32, norm="batch")
OPTIM = OptimConfig(learning_rate=3e-3)
HEALTH = HealthConfig(every_steps=5, grace_steps=20, patience=4, gradient_rows=0)


pytestmark = pytest.mark.usefixtures("one_rank")


class Remembered(Augment):
    """Views of a batch, made at its first sight."""

    def __call__(self, batch):
        made = self.__dict__.setdefault("made", {})
        if id(batch) not in made:
            made[id(batch)] = super().__call__(batch)
        return made[id(batch)]


class Corpus:
    """The first batches of the sample corpus, and their views."""

    def __init__(self, shards):
        self.config = tiny_pretrain(shards)
        self.stats = CorpusStats.load(shards / "stats")
        self.tokenizer_file = shards / "stats" / "tokenizer.json"
        views, backbone = self.config.views, self.config.backbone
        rate = self.stats.log_mel.sample_rate_hz
        loader = TripleLoader(
            open_stream(str(shards), "train"),
            Backbone(backbone, self.stats, self.tokenizer_file).decoder(),
            TrainCrops.from_configs(views, backbone, self.tokenizer_file, rate, 0),
            Slice(global_batch=BATCH),
            self.config.data.loader,
        )
        self.batches = list(itertools.islice(loader.batches(0), NUM_BATCHES))
        loader.close()

    def augment(self):
        return Remembered(self.config.views, LogMel(self.stats.log_mel), 0)


@pytest.fixture(scope="module")
def corpus(sample_shards):
    return Corpus(sample_shards)


def rules_that_fire(
    corpus, steps, *, objective=None, make_target=Target, base_tau=0.9, optim=OPTIM, batches=None
):
    """Train, and give the rules that found something at any time."""
    torch.manual_seed(0)
    objective = objective or Byol(ByolConfig(heads=HEADS))
    networks = objective.networks(
        Backbone(corpus.config.backbone, corpus.stats, corpus.tokenizer_file)
    )
    settings = EngineSettings(
        micro_samples=BATCH, accumulation_steps=1, max_gradient_norm=3.0, precision="fp32",
        zero_stage=1,
    )  # fmt: skip
    engine = Engine(networks.online, build_optimizer(networks.online, optim), settings)
    target = make_target(networks.target, base_tau, steps)
    step = TrainStep(
        engine, target, objective, corpus.augment(),
        StepSettings(total_steps=steps, micro_samples=BATCH, optim=optim),
    )  # fmt: skip
    found = []
    monitor = HealthMonitor(
        HEALTH,
        WatchedRun(
            online_weights=engine.master_parameters,
            target_weights=lambda: target.full_masters().items(),
            gradients=GradientProbe(engine.module, target.network, objective),
            sum_over_ranks=engine.sum_over_ranks,
            total_steps=steps,
            record=lambda step, record: found.append(record["verdict"]["findings"]),
        ),
        HEALTH.every_steps,
    )
    watched = monitor.watch(step)
    for number, batch in zip(
        range(steps), itertools.cycle(batches or corpus.batches), strict=False
    ):
        watched(batch, number)
    return {finding["rule"] for findings in found for finding in findings}


class NoPredictors(nn.Module):
    def forward(self, projections, counted):
        return projections


class WithoutPredictors(Byol):
    """Predictions are the projections themselves."""

    def networks(self, backbone):
        networks = super().networks(backbone)
        networks.online.predictors = NoPredictors()
        return networks


class Bfloat16Target(Target):
    """Its masters are rounded to bfloat16 after every update, as a bfloat16 target keeps them."""

    def update(self, online):
        super().update(online)
        for master in self.masters:
            master.value.copy_(master.value.bfloat16())


def test_a_healthy_run_is_left_alone(corpus):
    assert rules_that_fire(corpus, 70) == set()


def test_a_run_without_predictors_collapses_to_a_point(corpus):
    objective = WithoutPredictors(ByolConfig(heads=HEADS))
    assert "embeddings_are_one_point" in rules_that_fire(corpus, 70, objective=objective)


def test_a_target_with_tau_one_never_moves(corpus):
    assert "target_never_moves" in rules_that_fire(corpus, 25, base_tau=1.0)


def test_one_sound_for_every_sample_is_a_constant_modality(corpus):
    clip = corpus.batches[0].waveform[:1]
    same = [
        dataclasses.replace(batch, waveform=clip.expand_as(batch.waveform).clone())
        for batch in corpus.batches
    ]
    assert rules_that_fire(corpus, 50, batches=same) == {"modality_is_constant"}


def test_a_learning_rate_a_hundred_times_too_high_runs_away(corpus):
    optim = dataclasses.replace(OPTIM, learning_rate=100 * OPTIM.learning_rate)
    found = rules_that_fire(corpus, 25, base_tau=0.99, optim=optim)
    assert "weights_run_away" in found


def test_a_bfloat16_target_loses_its_updates(corpus):
    assert "target_loses_updates" in rules_that_fire(corpus, 25, make_target=Bfloat16Target)
