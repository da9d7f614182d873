from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_sharding.batch import DecodedSample, TripleBatch
from data_sharding.logmel import LogMel, LogMelConfig
from pretrain.views import (
    AudioViewConfig,
    Augment,
    ImageViewConfig,
    SubsetConfig,
    TextViewConfig,
    TextVocabulary,
    TrainCrops,
    ViewsConfig,
)
from pretrain.views.audio_level import LevelConfig
from pretrain.views.audio_masks import SpectrogramMaskConfig
from pretrain.views.augment import SUBSET_DRAWS, draw_subset
from pretrain.views.natural import NaturalViewConfig
from pretrain.views.photometric import IMAGE_DRAWS, draw_changes, photometric
from pretrain.views.random import view_generator
from pretrain.views.words import WordEditConfig

GOLDEN_TOKENS = [6, 32, 15, 21, 10, 30, 28, 27, 45, 17, 0, 0]
GOLDEN_LENGTHS = [78, 89]
GOLDEN_SUBSETS = [7, 9, 11]
GOLDEN_PIXELS = [0.47645, 0.49646]
GOLDEN_CORNER = [0.85098, 0.35894]
GOLDEN_MELS = [7.51713, 7.50605]
GOLDEN_POINT = [7.28648, 5.63598]


def a_batch(num=8, first=0):
    generator = torch.Generator().manual_seed(first)
    return TripleBatch(
        keys=tuple(f"k{first + i}" for i in range(num)),
        sample_ids=torch.arange(first, first + num),
        epochs=torch.zeros(num, dtype=torch.int64),
        token_ids=torch.randint(5, 50, (num, 1, 12), generator=generator).repeat(1, 2, 1),
        token_mask=torch.ones(num, 2, 12, dtype=torch.bool),
        image=torch.randint(0, 255, (num, 2, 3, 16, 16), generator=generator, dtype=torch.uint8),
        waveform=torch.randn(num, 2, 8000, generator=generator),
        present=torch.ones(num, 3, dtype=torch.bool),
        valid=torch.ones(num, dtype=torch.bool),
        metadata=(),
        texts=(),
    )


def plain_vocabulary(num=50):
    special = np.arange(num) < 5
    return TextVocabulary(mask_id=4, special=special, continuation=np.zeros(num, dtype=bool))


def augment(config=None, seed=0):
    return Augment(config or ViewsConfig(), LogMel(LogMelConfig()), seed)


def text_views(batch, config, seed=0):
    """What the crops make of the texts of a batch's first views."""
    crops = TrainCrops(
        seed=seed, size_pixels=8, crop_scale=(0.2, 1.0), clip_samples=10, max_tokens=12,
        vocabulary=plain_vocabulary(), text=config.text,
    )  # fmt: skip
    numbers = zip(batch.sample_ids.tolist(), batch.epochs.tolist(), strict=True)
    return [
        crops(a_text(sample_id, epoch, ids[0]))
        for (sample_id, epoch), ids in zip(numbers, batch.token_ids, strict=True)
    ]


def a_text(sample_id, epoch, token_ids):
    return DecodedSample(
        key="k", sample_id=sample_id, epoch=epoch, token_ids=token_ids, image=None,
        waveform=None, text=None, metadata=None,
    )  # fmt: skip


def test_the_same_key_gives_the_same_numbers_and_any_other_key_others():
    draws = {
        key: tuple(view_generator(*key).random(4))
        for key in [
            (0, 0, 0, 0, "text"), (1, 0, 0, 0, "text"), (0, 1, 0, 0, "text"),
            (0, 0, 1, 0, "text"), (0, 0, 0, 1, "text"), (0, 0, 0, 0, "image"),
        ]
    }  # fmt: skip
    assert len(set(draws.values())) == len(draws)
    assert tuple(view_generator(0, 0, 0, 0, "text").random(4)) == draws[0, 0, 0, 0, "text"]


def test_views_do_not_depend_on_how_the_batch_is_cut():
    batch = a_batch(16)
    whole, halves = augment()(batch), [augment()(batch.slice(s, s + 8)) for s in (0, 8)]
    for name in ("token_ids", "image", "log_mel", "subset"):
        joined = torch.cat([getattr(half, name) for half in halves], dim=1)
        torch.testing.assert_close(getattr(whole, name), joined)


def test_the_two_views_of_a_sample_differ_in_every_modality():
    views = augment()(a_batch())
    texts = [crops.token_ids for crops in text_views(a_batch(), ViewsConfig())]
    pairs = {"text": torch.stack(texts, 1), "image": views.image, "audio": views.log_mel}
    for name, (first, second) in pairs.items():
        assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True)), name


def test_the_fused_subset_is_never_empty_nor_more_than_what_is_there():
    batch = a_batch(16)
    batch.present[:, 2] = False
    subset = augment()(batch).subset
    assert subset.any(-1).all()
    assert not subset[..., 2].any()
    assert not subset.all(-1).any()


def test_modality_dropout_leaves_one_modality_where_it_would_leave_none():
    config = ViewsConfig(subset=SubsetConfig(text=0.0, image=0.0, audio=0.0))
    batch = a_batch(16)
    batch.present[:, 1] = False
    subset = augment(config)(batch).subset
    assert (subset.sum(-1) == 1).all()
    assert not subset[..., 1].any()


def test_a_modality_is_kept_as_often_as_its_chance_says():
    config = SubsetConfig(text=0.2, image=1.0, audio=0.5)
    draws = torch.from_numpy(np.random.default_rng(0).random((2, 4000, SUBSET_DRAWS)))
    subset = draw_subset(torch.ones(4000, 3, dtype=torch.bool), draws, config).float()
    assert subset.mean((0, 1)).tolist() == pytest.approx([0.2, 1.0, 0.5], abs=0.03)


def test_the_one_modality_that_is_left_is_any_of_those_there_equally_often():
    config = SubsetConfig(text=0.0, image=0.0, audio=0.0)
    draws = torch.from_numpy(np.random.default_rng(0).random((2, 4000, SUBSET_DRAWS)))
    subset = draw_subset(torch.tensor([[True, False, True]] * 4000), draws, config).float()
    assert subset.mean((0, 1)).tolist() == pytest.approx([0.5, 0.0, 0.5], abs=0.03)
    assert not draw_subset(torch.zeros(4000, 3, dtype=torch.bool), draws, config).any()


def test_a_mixup_group_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(ValueError, match="mixup_group 8 does not divide the 6"):
        augment()(a_batch(6))


def test_every_photometric_change_can_be_switched_on():
    on = ImageViewConfig(
        flip_probability=1.0, jitter_probability=1.0, grayscale_probability=1.0,
        blur_probability=(1.0, 1.0), solarize_probability=(1.0, 1.0),
    )  # fmt: skip
    images = torch.randint(0, 255, (2, 1, 3, 32, 32), dtype=torch.uint8)
    draws = torch.from_numpy(np.random.default_rng(0).random((2, 1, IMAGE_DRAWS)))
    other = photometric(images, draw_changes(draws, on), on)
    assert other.shape == images.shape
    torch.testing.assert_close(other[:, :, 0], other[:, :, 1], atol=1e-6, rtol=0.0)  # gray
    assert not torch.equal(other, images.float() / 255.0)


def test_crops_of_a_sample_without_picture_or_sound_are_zeros():
    crops = TrainCrops(
        seed=0, size_pixels=8, crop_scale=(0.2, 1.0), clip_samples=100, max_tokens=6,
        vocabulary=plain_vocabulary(), text=TextViewConfig(mask_probability=(0.0, 0.0)),
    )  # fmt: skip
    tensors = crops(a_text(1, 0, torch.arange(2, 12)))
    assert tensors.image.shape == (2, 3, 8, 8)
    assert not tensors.image.any()
    assert not tensors.waveform.any()
    assert tensors.token_ids.tolist() == [[2, 3, 4, 5, 6, 11]] * 2  # cut, the last token kept


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (ImageViewConfig, {"flip_probability": 1.5}),
        (ImageViewConfig, {"crop_scale": (0.5, 0.2)}),
        (ImageViewConfig, {"hue": 0.7}),
        (AudioViewConfig, {"mixup_ratio": 1.0}),
        (AudioViewConfig, {"crop_seconds": 0.0}),
        (TextViewConfig, {"mask_probability": (0.1, -0.1)}),
        (ImageViewConfig, {"crop_aspect": (2.0, 0.5)}),
        (ImageViewConfig, {"blur_sigma": (0.0, 1.0)}),
        (ImageViewConfig, {"blur_kernel_share": 0.7}),
        (ImageViewConfig, {"solarize_threshold": 300}),
        (AudioViewConfig, {"fader_probability": (0.5, 2.0)}),
        (LevelConfig, {"noise_snr_decibels": (30.0, 10.0)}),
        (SpectrogramMaskConfig, {"time_share": 0.0}),
        (WordEditConfig, {"span_mean_words": 0.5}),
        (WordEditConfig, {"drop_probability": (0.0, 1.5)}),
        (NaturalViewConfig, {"text": 1.1}),
    ],
)
def test_a_view_option_out_of_range_is_refused_by_name(kind, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        kind(**option)


def a_fixed_batch(num=8):
    """The same numbers on every machine and for every version of torch."""
    numbers = np.random.Generator(np.random.Philox(key=0))
    token_ids = torch.from_numpy(numbers.integers(5, 50, (num, 1, 12))).repeat(1, 2, 1)
    pixels = numbers.integers(0, 255, (num, 2, 3, 16, 16), dtype=np.uint8)
    waveform = torch.from_numpy(numbers.standard_normal((num, 2, 8000), dtype=np.float32))
    return replace(
        a_batch(num), token_ids=token_ids, image=torch.from_numpy(pixels), waveform=waveform
    )


def test_a_seed_gives_the_views_it_always_gave():
    config = ViewsConfig(
        image=ImageViewConfig(blur_probability=(1.0, 0.1)),
        audio=AudioViewConfig(mixup_ratio=0.3),
        text=TextViewConfig(mask_probability=(0.3, 0.1), delete_probability=(0.2, 0.1)),
    )
    views = augment(config, seed=3)(a_fixed_batch())
    texts = text_views(a_fixed_batch(), config, seed=3)
    assert texts[0].token_ids[0].tolist() == GOLDEN_TOKENS
    assert sum(text.token_mask.sum(1) for text in texts).tolist() == GOLDEN_LENGTHS
    assert views.subset.sum((0, 1)).tolist() == GOLDEN_SUBSETS
    # Loose enough for another library's rounding, far too tight for another draw.
    assert views.image.mean((1, 2, 3, 4)).tolist() == pytest.approx(GOLDEN_PIXELS, abs=1e-3)
    assert views.image[:, 0, 0, 0, 0].tolist() == pytest.approx(GOLDEN_CORNER, abs=0.01)
    assert views.log_mel.mean((1, 2, 3)).tolist() == pytest.approx(GOLDEN_MELS, abs=1e-3)
    assert views.log_mel[:, 0, 5, 7].tolist() == pytest.approx(GOLDEN_POINT, abs=1e-3)


def test_an_option_that_is_off_takes_no_draw_from_another():
    batch, plain = a_batch(), augment()(a_batch())
    loud = AudioViewConfig(level=LevelConfig(noise_probability=(1.0, 1.0)))
    changed = augment(ViewsConfig(audio=loud))(batch)
    assert torch.equal(changed.image, plain.image)
    assert torch.equal(changed.subset, plain.subset)
    assert not torch.equal(changed.log_mel, plain.log_mel)
    silent = AudioViewConfig(mixup_ratio=0.0, fader_nepers=0.0)
    cropped = AudioViewConfig(mixup_probability=(0.0, 0.0), fader_probability=(0.0, 0.0))
    same = [augment(ViewsConfig(audio=config))(batch).log_mel for config in (silent, cropped)]
    torch.testing.assert_close(*same)


EVERYTHING = ViewsConfig(
    image=ImageViewConfig(blur_probability=(1.0, 0.5), solarize_probability=(0.5, 0.5)),
    audio=AudioViewConfig(
        mixup_probability=(0.5, 0.5),
        mixup_group=4,
        resize_time=(0.6, 1.5),
        level=LevelConfig(gain_probability=(0.5, 0.5), noise_probability=(0.5, 0.5)),
        masks=SpectrogramMaskConfig(time_probability=(0.5, 1.0), frequency_probability=(1.0, 0.5)),
    ),
    text=TextViewConfig(
        mask_unit="word",
        delete_probability=(0.1, 0.1),
        words=WordEditConfig(
            span_probability=(0.5, 0.2), drop_probability=(0.2, 0.1), repeat_probability=(0.2, 0.1)
        ),
    ),
)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_cut_of_a_batch_into_groups_gives_the_same_views(data):
    batch = a_batch(16)
    whole = augment(EVERYTHING)(batch)
    bounds = [0, *sorted(data.draw(st.sets(st.sampled_from([4, 8, 12])))), 16]
    parts = [batch.slice(start, stop) for start, stop in pairwise(bounds)]
    order = data.draw(st.permutations(range(len(parts))))  # of the workers, or after a restart
    drawn = {place: augment(EVERYTHING)(parts[place]) for place in order}
    for name in ("image", "log_mel", "subset"):
        joined = torch.cat([getattr(drawn[place], name) for place in range(len(parts))], dim=1)
        torch.testing.assert_close(getattr(whole, name), joined)


def test_an_epoch_later_the_same_samples_have_other_views():
    batch = a_batch()
    after = replace(batch, epochs=batch.epochs + 1)
    views, later = augment()(batch), augment()(after)
    for name in ("image", "log_mel", "subset"):
        assert not torch.equal(getattr(views, name), getattr(later, name)), name
    texts, later_texts = (text_views(each, ViewsConfig()) for each in (batch, after))
    assert any(
        not torch.equal(text.token_ids, other.token_ids)
        for text, other in zip(texts, later_texts, strict=True)
    )
