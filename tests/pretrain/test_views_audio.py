import math

import numpy as np
import pytest
import torch

from pretrain.views import AudioViewConfig
from pretrain.views.audio import augment_clip, mixup, resize_crop
from pretrain.views.audio_level import LevelConfig, change_level
from pretrain.views.audio_masks import SpectrogramMaskConfig, mask_log_mel


def draw(seed=0):
    return np.random.default_rng(seed)


def test_mixup_of_equal_clips_changes_nothing_and_ratio_zero_is_the_clip():
    clip = torch.randn(1, 4, 5).repeat(4, 1, 1)
    ratios = torch.tensor([0.0, 0.1, 0.3, 0.9])
    torch.testing.assert_close(mixup(clip, 4, ratios, [1, 2, 3, 1]), clip)
    other = torch.randn(4, 4, 5)
    mixed = mixup(other, 2, torch.tensor([0.0, 0.0, 0.25, 0.25]), [1, 1, 1, 1])
    torch.testing.assert_close(mixed[0], other[0])
    expected = torch.log(0.75 * other[2].exp() + 0.25 * other[3].exp())
    torch.testing.assert_close(mixed[2], expected)


def test_a_crop_that_reaches_beyond_the_clip_shrinks_it_between_its_mean():
    clip = torch.full((4, 8), 3.0)
    clip[:, :4] = 1.0
    wide = resize_crop(clip, (0, 4), (-8, 8))
    torch.testing.assert_close(wide[:, :3], torch.full((4, 3), 2.0))
    torch.testing.assert_close(wide[:, 7], torch.full((4,), 3.0))
    torch.testing.assert_close(resize_crop(clip, (0, 4), (0, 8)), clip)


def test_crop_and_fader_commute_with_the_corpus_norm():
    """Normalising after these views is BYOL-A's norm before them."""
    clip, config = torch.randn(8, 16) * 3 - 5, AudioViewConfig(fader_nepers=2.0)
    scaled = AudioViewConfig(fader_nepers=1.0)
    after = (augment_clip(clip, config, (True, True), draw()) + 5) / 2
    before = augment_clip((clip + 5) / 2, scaled, (True, True), draw())
    torch.testing.assert_close(after, before)


def test_neither_crop_nor_fader_leaves_the_clip_as_it_is():
    clip = torch.randn(8, 16)
    assert torch.equal(augment_clip(clip, AudioViewConfig(), (False, False), draw()), clip)


def test_masks_hide_no_more_than_their_shares_and_fill_with_the_mean():
    config = SpectrogramMaskConfig(
        time_probability=(1.0, 0.0), frequency_probability=(0.0, 1.0), time_stretches=2
    )
    for seed in range(30):
        clip = torch.randn(20, 50)
        hidden = mask_log_mel(clip, 0, config, draw(seed)) != clip
        assert torch.equal(hidden.any(0), hidden.all(0))  # whole frames
        assert hidden.any(0).sum() <= 2 * 10
        bands = mask_log_mel(clip, 1, config, draw(seed))
        assert (bands != clip).any(1).sum() <= 4
        assert bool(((bands == clip) | (bands == clip.mean())).all())
    off = SpectrogramMaskConfig()
    assert mask_log_mel(clip, 0, off, draw()) is clip


def test_noise_has_the_power_that_the_ratio_says_and_silence_stays_silent():
    config = LevelConfig(noise_probability=(1.0, 0.0), noise_snr_decibels=(20.0, 20.0))
    clip = torch.sin(torch.arange(16_000) * 0.1)
    noise = change_level(clip, 0, config, draw()) - clip
    ratio = 10 * math.log10(clip.square().mean() / noise.square().mean())
    assert ratio == pytest.approx(20.0, abs=0.2)
    assert not change_level(torch.zeros(100), 0, config, draw()).any()
    assert change_level(clip, 1, config, draw()) is clip


def test_gain_is_in_decibels_of_power():
    config = LevelConfig(gain_probability=(1.0, 0.0), gain_decibels=(6.0, 6.0))
    clip = torch.randn(100)
    louder = change_level(clip, 0, config, draw())
    assert 20 * math.log10(louder.norm() / clip.norm()) == pytest.approx(6.0, abs=1e-4)
