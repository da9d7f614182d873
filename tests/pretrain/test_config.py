import json
from dataclasses import replace

import pytest

from data_sharding.logmel import LogMelConfig
from pretrain.config import (
    BatchConfig,
    DataConfig,
    PretrainConfig,
    config_from_json,
    config_to_json,
)
from pretrain.ema import EmaConfig
from pretrain.models import HeadConfig
from pretrain.objectives import ByolConfig
from pretrain.optim import OptimConfig


def a_config():
    return PretrainConfig(data=DataConfig(shards="shards"), ema=EmaConfig(base_tau=0.97))


def test_a_config_comes_back_from_its_json():
    content = json.loads(json.dumps(config_to_json(a_config())))
    assert config_from_json(PretrainConfig, content, "config.json") == a_config()


def test_an_unknown_key_at_any_depth_is_refused_with_a_suggestion():
    content = config_to_json(a_config())
    content["ema"]["base_tua"] = 0.9
    with pytest.raises(
        ValueError, match=r"config\.json: unknown key ema\.base_tua; did you mean ema\.base_tau"
    ):
        config_from_json(PretrainConfig, content, "config.json")


@pytest.mark.parametrize("value", ["many", None, -3])
def test_a_wrong_value_is_refused_by_name(value):
    content = config_to_json(a_config()) | {"total_steps": value}
    with pytest.raises(ValueError, match="total_steps"):
        config_from_json(PretrainConfig, content, "config.json")


def test_a_batch_that_the_ranks_do_not_divide_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="63 and 66"):
        BatchConfig(global_samples=64).micro_for(3)


def test_a_batch_smaller_than_the_ranks_is_refused():
    with pytest.raises(ValueError, match=r"the nearest: 4$"):
        BatchConfig(global_samples=2).micro_for(4)


def test_micro_samples_that_do_not_divide_the_share_are_refused():
    with pytest.raises(ValueError, match="the nearest that does: 8"):
        BatchConfig(global_samples=64, micro_samples=7).micro_for(2)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (EmaConfig, {"base_tau": 1.0}),
        (EmaConfig, {"base_tau": float("nan")}),
        (OptimConfig, {"learning_rate": 0.0}),
        (OptimConfig, {"learning_rate": float("nan")}),
        (OptimConfig, {"warmup_fraction": 1.0}),
        (OptimConfig, {"weight_decay": -0.1}),
        (OptimConfig, {"max_gradient_norm": -1.0}),
        (OptimConfig, {"final_weight_decay": -0.1}),
        (OptimConfig, {"momentum": 1.0}),
        (OptimConfig, {"trust_coefficient": float("nan")}),
    ],
)
def test_nonsense_is_refused_by_the_name_of_its_option(kind, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        kind(**option)


def test_lars_under_zero_is_refused_with_both_options_named():
    data, lars = DataConfig(shards="shards"), OptimConfig(optimizer="lars")
    assert PretrainConfig(data=data, optim=lars, zero_stage=0).optim == lars
    with pytest.raises(ValueError, match=r"optim\.optimizer lars needs zero_stage 0"):
        PretrainConfig(data=data, optim=lars)


def test_a_mixup_group_that_splits_over_ranks_is_refused_before_the_start():
    config = replace(a_config(), batch=BatchConfig(global_samples=24))
    config.check_ranks(3)
    with pytest.raises(ValueError, match="mixup_group 8 does not divide the 12 samples"):
        config.check_ranks(2)


def with_heads(batch, **heads):
    config = replace(a_config(), byol=ByolConfig(heads=HeadConfig(**heads)), batch=batch)
    audio = replace(config.views.audio, mixup_ratio=0.0)
    return replace(config, views=replace(config.views, audio=audio))


@pytest.mark.parametrize(
    ("world_size", "micro", "norm_samples", "ways"),
    [
        (1, 1, None, r"set batch\.micro_samples to 16, or byol\.heads\.norm to layer$"),
        (2, 4, None, r"set batch\.micro_samples to 8, or byol\.heads\.norm_samples to 8 \(other"),
        (2, 4, 16, r"set batch\.micro_samples to 8, or byol\.heads\.norm_samples to 8 \(other"),
        (1, None, 12, r"set byol\.heads\.norm_samples to 8 \(other losses\), or byol\.heads\.norm"),
    ],
)
def test_cohorts_that_no_forward_pass_holds_are_refused_with_what_would_fit(
    world_size, micro, norm_samples, ways
):
    batch = BatchConfig(global_samples=16, micro_samples=micro)
    config = with_heads(batch, norm_samples=norm_samples)
    with pytest.raises(ValueError, match=ways):
        config.check_ranks(world_size)
    with_heads(batch, norm_samples=norm_samples, norm="layer").check_ranks(world_size)


@pytest.mark.parametrize(("world_size", "micro"), [(1, 48), (1, 24), (2, 12), (3, 8), (6, 4)])
def test_cohorts_inside_one_rank_or_over_several_are_accepted(world_size, micro):
    batch = BatchConfig(global_samples=48, micro_samples=micro)
    with_heads(batch, norm_samples=24).check_ranks(world_size)
    with_heads(batch, norm_samples=12).check_ranks(world_size)


def test_a_mixup_group_that_splits_over_micro_batches_is_refused_where_ranks_take_turns():
    config = replace(a_config(), batch=BatchConfig(global_samples=16, micro_samples=4))
    config = replace(config, byol=ByolConfig(heads=HeadConfig(norm="layer")))
    config.check_ranks(1)
    with pytest.raises(ValueError, match="mixup_group 8 does not divide the 4 samples"):
        config.check_ranks(2)


@pytest.mark.parametrize("encoder", ["audio_cnn", "ast", "byol_a", "audio_gru"])
def test_clips_too_short_for_the_encoder_are_refused_by_their_option(encoder):
    config = a_config()
    audio = replace(config.backbone.audio, encoder=encoder)
    config = replace(config, backbone=replace(config.backbone, audio=audio))
    config.check_spectrogram(LogMelConfig())
    short = replace(config.views.audio, crop_seconds=0.02)
    views = replace(config.views, audio=short)
    with pytest.raises(ValueError, match=r"views\.audio\.crop_seconds 0\.02 is too short"):
        replace(config, views=views).check_spectrogram(LogMelConfig())


def test_a_cross_weight_that_would_never_be_reached_is_refused():
    with pytest.raises(ValueError, match="add up to more than 1"):
        ByolConfig(cross_start_fraction=0.6, cross_ramp_fraction=0.6)
