import numpy as np
import pytest
import torch

from data_sharding.batch import DecodedSample, TripleBatch
from data_sharding.logmel import LogMel, LogMelConfig
from pretrain.views import (
    AudioViewConfig,
    Augment,
    ImageViewConfig,
    SubsetConfig,
    TextViewConfig,
    TrainCrops,
    ViewsConfig,
)
from pretrain.views.audio import mixup
from pretrain.views.image import photometric
from pretrain.views.random import view_generator
from pretrain.views.text import MASK_ID, mask_tokens


def a_batch(num=8, first=0):
    generator = torch.Generator().manual_seed(first)
    return TripleBatch(
        keys=tuple(f"k{first + i}" for i in range(num)),
        sample_ids=torch.arange(first, first + num),
        epochs=torch.zeros(num, dtype=torch.int64),
        token_ids=torch.randint(5, 50, (num, 12), generator=generator),
        token_mask=torch.ones(num, 12, dtype=torch.bool),
        image=torch.randint(0, 255, (num, 2, 3, 16, 16), generator=generator, dtype=torch.uint8),
        waveform=torch.randn(num, 2, 8000, generator=generator),
        present=torch.ones(num, 3, dtype=torch.bool),
        valid=torch.ones(num, dtype=torch.bool),
        metadata=(),
        texts=(),
    )


def augment(config=None, seed=0):
    return Augment(config or ViewsConfig(), LogMel(LogMelConfig()), seed)


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
    for name in ("token_ids", "image", "log_mel"):
        first, second = getattr(views, name)
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
    config = ViewsConfig(subset=SubsetConfig(text=0.2, image=1.0, audio=0.5))
    subset = augment(config)(a_batch(512)).subset.float().mean((0, 1))
    assert subset.tolist() == pytest.approx([0.2, 1.0, 0.5], abs=0.06)


def test_a_mixup_group_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(ValueError, match="mixup_group 8 does not divide the 6"):
        augment()(a_batch(6))


def test_mixup_of_equal_clips_changes_nothing_and_ratio_zero_is_the_clip():
    clip = torch.randn(1, 4, 5).repeat(4, 1, 1)
    ratios = torch.tensor([0.0, 0.1, 0.3, 0.9])
    torch.testing.assert_close(mixup(clip, 4, ratios, [1, 2, 3, 1]), clip)
    other = torch.randn(4, 4, 5)
    mixed = mixup(other, 2, torch.tensor([0.0, 0.0, 0.25, 0.25]), [1, 1, 1, 1])
    torch.testing.assert_close(mixed[0], other[0])
    expected = torch.log(0.75 * other[2].exp() + 0.25 * other[3].exp())
    torch.testing.assert_close(mixed[2], expected)


def test_masking_keeps_special_tokens_and_deleting_closes_the_gap():
    ids = torch.tensor([2, 10, 11, 12, 3, 0, 0])
    mask = torch.tensor([True] * 5 + [False] * 2)
    masked, kept = mask_tokens(ids, mask, (1.0, 0.0), np.random.default_rng(0))
    assert masked.tolist() == [2, MASK_ID, MASK_ID, MASK_ID, 3, 0, 0]
    assert torch.equal(kept, mask)
    deleted, kept = mask_tokens(ids, mask, (0.0, 1.0), np.random.default_rng(0))
    assert deleted.tolist() == [2, 3, 0, 0, 0, 0, 0]
    assert kept.sum() == 2


def test_photometric_changes_off_leave_the_picture_alone():
    off = ImageViewConfig(
        flip_probability=0.0, jitter_probability=0.0, grayscale_probability=0.0,
        solarize_probability=(0.0, 0.0),
    )  # fmt: skip
    image = torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8)
    assert torch.equal(photometric(image, 0, off, np.random.default_rng(0)), image)


def test_every_photometric_change_can_be_switched_on():
    on = ImageViewConfig(
        flip_probability=1.0, jitter_probability=1.0, grayscale_probability=1.0,
        blur_probability=(1.0, 1.0), solarize_probability=(1.0, 1.0),
    )  # fmt: skip
    image = torch.randint(0, 255, (3, 32, 32), dtype=torch.uint8)
    changed = photometric(image, 1, on, np.random.default_rng(0))
    assert changed.shape == image.shape
    assert torch.equal(changed[0], changed[1])  # gray
    assert not torch.equal(changed, image)


def test_crops_of_a_sample_without_picture_or_sound_are_zeros():
    crops = TrainCrops(seed=0, size_pixels=8, crop_scale=(0.2, 1.0), clip_samples=100, max_tokens=6)
    sample = DecodedSample(
        key="k", sample_id=1, epoch=0, token_ids=torch.arange(2, 12), image=None,
        waveform=None, text=None, metadata=None,
    )  # fmt: skip
    tensors = crops(sample)
    assert tensors.image.shape == (2, 3, 8, 8)
    assert not tensors.image.any()
    assert not tensors.waveform.any()
    assert tensors.token_ids.tolist() == [2, 3, 4, 5, 6, 11]  # cut, the last token kept


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (ImageViewConfig, {"flip_probability": 1.5}),
        (ImageViewConfig, {"crop_scale": (0.5, 0.2)}),
        (ImageViewConfig, {"hue": 0.7}),
        (AudioViewConfig, {"mixup_ratio": 1.0}),
        (AudioViewConfig, {"crop_seconds": 0.0}),
        (TextViewConfig, {"mask_probability": (0.1, -0.1)}),
    ],
)
def test_a_view_option_out_of_range_is_refused_by_name(kind, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        kind(**option)
