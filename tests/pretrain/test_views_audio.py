import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from data_sharding.logmel import POWER_FLOOR, LogMel, LogMelConfig
from pretrain.views import AudioViewConfig
from pretrain.views.audio_changes import (
    Spans,
    audio_views,
    draw_spans,
    fade,
    mixup,
    resize_crop,
)
from pretrain.views.audio_level import LEVEL_DRAWS, LevelConfig, change_level
from pretrain.views.audio_masks import SpectrogramMaskConfig, mask_log_mel

ROOT = Path(__file__).parents[2]
ALWAYS = (1.0, 1.0)


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def clips(*shape, seed=0):
    drawn = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(drawn) * 3.0 - 5.0


def draws_for(config, batch, seed=0):
    return {
        purpose: numbers(2, batch, count, seed=seed + place)
        for place, (purpose, count) in enumerate(config.num_draws.items())
    }


def test_mixup_of_equal_clips_changes_nothing_and_ratio_zero_is_the_clip():
    clip = torch.randn(1, 1, 4, 5).repeat(1, 4, 1, 1)
    ratios = torch.tensor([[0.0, 0.1, 0.3, 0.9]])
    torch.testing.assert_close(mixup(clip, 4, ratios, torch.tensor([[1, 2, 3, 1]])), clip)
    other = torch.randn(1, 4, 4, 5)
    mixed = mixup(other, 2, torch.tensor([[0.0, 0.0, 0.25, 0.25]]), torch.ones(1, 4).long())
    torch.testing.assert_close(mixed[0, 0], other[0, 0])
    expected = torch.log(0.75 * other[0, 2].exp() + 0.25 * other[0, 3].exp())
    torch.testing.assert_close(mixed[0, 2], expected)


def test_a_partner_is_of_the_same_group_and_view():
    own = torch.arange(2 * 6.0).view(2, 6, 1, 1)
    almost_all = torch.full((2, 6), 1.0 - 1e-7)
    partner = mixup(own, 3, almost_all, torch.tensor([[0, 1, 2, 2, 1, 0]] * 2))
    expected = [0.0, 2.0, 1.0, 5.0, 5.0, 5.0]
    assert partner[0].flatten().tolist() == pytest.approx(expected, abs=1e-4)
    assert partner[1].flatten().tolist() == pytest.approx([6.0 + n for n in expected], abs=1e-4)


def cut_by_interpolation(clip, bands, frames):
    """One clip's resize crop by torch's own functions: pad with the mean, cut, interpolate."""
    room = 2 * max(clip.shape)
    wide = F.pad(clip, (room,) * 4, value=float(clip.mean()))
    (top, height), (left, width) = bands, frames
    part = wide[room + top : room + top + height, room + left : room + left + width]
    return F.interpolate(part[None, None], size=clip.shape, mode="bilinear")[0, 0]


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 14), st.integers(0, 10**6))
def test_a_resize_crop_is_the_part_interpolated_wherever_it_reaches(mels, frames, seed):
    log_mel = clips(2, 3, mels, frames, seed=seed)
    bands = draw_spans(mels, (0.05, 2.0), numbers(2, 3, 2, seed=seed))
    columns = draw_spans(frames, (0.05, 2.0), numbers(2, 3, 2, seed=seed + 1))
    together = resize_crop(log_mel, bands, columns)
    for view in range(2):
        for row in range(3):
            own = [
                (int(part.start[view, row]), int(part.size[view, row])) for part in (bands, columns)
            ]
            alone = cut_by_interpolation(log_mel[view, row], *own)
            torch.testing.assert_close(together[view, row], alone, atol=1e-5, rtol=0.0)


@given(st.integers(1, 300), st.floats(0.05, 2.0), st.integers(0, 1000))
def test_a_part_is_within_the_clip_or_around_it(length, share, seed):
    part = draw_spans(length, (share, share), numbers(1, 20, 2, seed=seed))
    stop = part.start + part.size
    assert (part.size == max(1, round(length * share))).all()
    inside = (part.start >= 0) & (stop <= length)
    around = (part.start <= 0) & (stop >= length)
    assert (inside | around).all()


def test_a_crop_that_reaches_beyond_the_clip_shrinks_it_between_its_mean():
    clip = torch.full((1, 1, 4, 8), 3.0)
    clip[..., :4] = 1.0
    everything = Spans(start=torch.tensor([[0]]), size=torch.tensor([[4]]))
    beyond = Spans(start=torch.tensor([[-8]]), size=torch.tensor([[16]]))
    wide = resize_crop(clip, everything, beyond)[0, 0]
    torch.testing.assert_close(wide[:, :3], torch.full((4, 3), 2.0))
    torch.testing.assert_close(wide[:, 7], torch.full((4,), 3.0))
    same = Spans(start=torch.tensor([[0]]), size=torch.tensor([[8]]))
    assert torch.equal(resize_crop(clip, everything, same), clip)


def test_a_fader_goes_in_a_straight_line():
    faded = fade(torch.zeros(1, 2, 3, 5), torch.tensor([[[-1.0, 1.0], [0.5, 0.5]]]))
    assert faded[0, 0, 0].tolist() == pytest.approx([-1.0, -0.5, 0.0, 0.5, 1.0])
    assert torch.equal(faded[0, 1], torch.full((3, 5), 0.5))
    assert fade(torch.zeros(1, 1, 1, 1), torch.tensor([[[0.3, 0.9]]])).item() == pytest.approx(0.3)


def test_crop_and_fader_commute_with_the_corpus_norm():
    """Normalising after these views is BYOL-A's norm before them."""
    off, batch = {"mixup_ratio": 0.0}, 4
    config = AudioViewConfig(fader_nepers=2.0, resize_time=(0.6, 1.5), **off)
    scaled = AudioViewConfig(fader_nepers=1.0, resize_time=(0.6, 1.5), **off)
    log_mel, draws = clips(2, batch, 8, 16), draws_for(config, batch)
    after = (audio_views(torch.zeros(2, batch, 1), draws, config, lambda _: log_mel) + 5) / 2
    normed = (log_mel + 5) / 2
    before = audio_views(torch.zeros(2, batch, 1), draws, scaled, lambda _: normed)
    torch.testing.assert_close(after, before)


def test_a_clip_that_nothing_is_chosen_for_stays_as_it_is():
    never = (0.0, 0.0)
    config = AudioViewConfig(
        mixup_probability=never, resize_probability=never, fader_probability=never
    )
    log_mel = clips(2, 8, 8, 16)
    same = audio_views(torch.zeros(2, 8, 1), draws_for(config, 8), config, lambda _: log_mel)
    torch.testing.assert_close(same, log_mel, atol=1e-6, rtol=0.0)


def test_masks_hide_no_more_than_their_shares_and_fill_with_the_mean():
    config = SpectrogramMaskConfig(
        time_probability=(1.0, 0.0), frequency_probability=(0.0, 1.0), time_stretches=2
    )
    log_mel = torch.randn(2, 30, 20, 50)
    masked = mask_log_mel(log_mel, numbers(2, 30, config.num_draws), config)
    hidden = masked != log_mel
    frames, bands = hidden[0], hidden[1]
    assert torch.equal(frames.any(1), frames.all(1))  # whole frames
    assert torch.equal(bands.any(2), bands.all(2))
    assert 10 < frames.any(1).sum(1).max() <= 2 * 10  # two stretches
    assert bands.any(2).sum(1).max() == 4
    assert frames.any(1).sum(1).min() < 10
    mean = log_mel.mean((2, 3), keepdim=True).expand_as(masked)
    assert torch.equal(masked[hidden], mean[hidden])
    off = SpectrogramMaskConfig()
    assert mask_log_mel(log_mel, numbers(2, 30, off.num_draws), off) is log_mel


def test_noise_has_the_power_that_the_ratio_says_and_silence_stays_silent():
    config = LevelConfig(noise_probability=(1.0, 0.0), noise_snr_decibels=(20.0, 20.0))
    clip = torch.sin(torch.arange(16_000) * 0.1).repeat(2, 2, 1)
    clip[0, 1] = 0.0
    louder = change_level(clip, numbers(2, 2, LEVEL_DRAWS), config)
    noise = louder - clip
    ratio = 10 * math.log10(clip[0, 0].square().mean() / noise[0, 0].square().mean())
    assert ratio == pytest.approx(20.0, abs=0.2)
    assert not louder[0, 1].any()
    assert torch.equal(louder[1], clip[1])
    assert change_level(clip, numbers(2, 2, LEVEL_DRAWS), LevelConfig()) is clip


def test_gain_is_in_decibels_of_power():
    config = LevelConfig(gain_probability=(1.0, 0.0), gain_decibels=(6.0, 6.0))
    clip = torch.randn(2, 1, 100)
    louder = change_level(clip, numbers(2, 1, LEVEL_DRAWS), config)
    assert 20 * math.log10(louder[0].norm() / clip[0].norm()) == pytest.approx(6.0, abs=1e-4)
    assert torch.equal(louder[1], clip[1])


EVERYTHING = AudioViewConfig(
    mixup_group=4,
    mixup_probability=(0.5, 0.9),
    resize_probability=(0.5, 0.9),
    fader_probability=(0.7, 0.5),
    resize_time=(0.4, 1.6),
    resize_frequency=(0.5, 1.5),
    level=LevelConfig(gain_probability=(0.5, 0.5)),
    masks=SpectrogramMaskConfig(
        time_probability=(0.5, 0.5),
        frequency_probability=(0.5, 0.5),
        frequency_groups=2,
        time_stretches=3,
    ),
)
FROM_ONE_BY_ONE = [
    7.001497,
    7.692049,
    8.241785,
    6.563128,
    7.907275,
    7.405529,
    8.787085,
    7.799305,
    6.911376,
    7.744421,
    8.491627,
    6.860601,
    8.433584,
    7.49077,
    9.225364,
    8.276549,
]
"""Mean and one point of each clip, made of the same draws by a loop over clips that padded, cut and
interpolated each."""


def test_a_whole_batch_has_the_views_that_its_clips_had_one_by_one():
    waveform = torch.from_numpy(
        np.random.default_rng(1).standard_normal((2, 4, 4000), dtype=np.float32)
    )
    views = audio_views(waveform, draws_for(EVERYTHING, 4), EVERYTHING, LogMel(LogMelConfig()))
    found = [*views.mean((2, 3)).flatten().tolist(), *views[:, :, 40, 11].flatten().tolist()]
    assert found == pytest.approx(FROM_ONE_BY_ONE, abs=1e-5)


def test_the_spectrogram_is_torchaudios():
    log_mel, waveform = LogMel(LogMelConfig()), torch.randn(2, 3, 4000)
    assert torch.equal(log_mel(waveform), torch.log(log_mel.mel(waveform) + POWER_FLOOR))
    assert torch.equal(log_mel(waveform[0, 0]), log_mel(waveform)[0, 0])


def test_no_change_of_a_clip_asks_the_device_for_a_number():
    """The clips lie on a device that holds no values: whatever waited for one would fail."""
    there, never = torch.device("meta"), (0.0, 0.0)
    noisy = replace(EVERYTHING.level, noise_probability=(0.5, 0.5))
    for config in (replace(EVERYTHING, level=noisy), AudioViewConfig(mixup_probability=never)):
        draws = {name: drawn.to(there) for name, drawn in draws_for(config, 8).items()}
        waveform = torch.zeros(2, 8, 4000, device=there)
        views = audio_views(waveform, draws, config, LogMel(LogMelConfig()).to(there))
        assert views.shape == (2, 8, 64, 26)


COMPILED = """
import torch
from functools import partial
from torch._dynamo.testing import CompileCounter
from data_sharding.logmel import LogMel, LogMelConfig
from data_sharding.batch import TripleBatch
from pretrain.views import Augment, AudioViewConfig, ViewsConfig
from pretrain.views.audio_changes import audio_views
from pretrain.views.audio_level import LevelConfig
from pretrain.views.audio_masks import SpectrogramMaskConfig

half = (0.5, 0.5)
config = AudioViewConfig(
    mixup_group=4,
    mixup_probability=half, resize_probability=half, fader_probability=half, resize_time=(0.5, 1.5),
    level=LevelConfig(gain_probability=half, noise_probability=half),
    masks=SpectrogramMaskConfig(time_probability=half, frequency_probability=half),
)
log_mel, seen = LogMel(LogMelConfig()), CompileCounter()
compiled = torch.compile(audio_views, backend=seen, fullgraph=True)
for seed in range(2):
    torch.manual_seed(seed)
    waveform = torch.randn(2, 4, 4000)
    draws = {
        name: torch.rand(2, 4, count, dtype=torch.float64)
        for name, count in config.num_draws.items()
    }
    there = compiled(waveform, draws, config, log_mel)
    assert torch.equal(there, audio_views(waveform, draws, config, log_mel))
print(seen.frame_count)

# As a run does it, but for the backend: inductor takes half a minute on a CPU.
torch.compile = partial(torch.compile, backend="aot_eager")
batch = TripleBatch(
    keys=tuple("abcd"),
    sample_ids=torch.arange(4),
    epochs=torch.zeros(4, dtype=torch.int64),
    token_ids=torch.zeros(4, 2, 3, dtype=torch.int64),
    token_mask=torch.ones(4, 2, 3, dtype=torch.bool),
    image=torch.zeros(4, 2, 3, 16, 16, dtype=torch.uint8),
    waveform=torch.randn(4, 2, 4000),
    present=torch.ones(4, 3, dtype=torch.bool),
    valid=torch.ones(4, dtype=torch.bool),
)
plain, compiled = (
    Augment(ViewsConfig(audio=config), log_mel, 0, compiled=compiled)(batch)
    for compiled in (False, True)
)
torch.testing.assert_close(compiled.log_mel, plain.log_mel, rtol=1e-5, atol=1e-5)
print(torch.equal(compiled.image, plain.image))
"""


def test_all_changes_of_a_batch_are_one_graph_compiled_once_and_the_same_views():
    """By itself: torch.compile cannot look through the checks of shapes that tests run with."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1", "True"], done.stderr
