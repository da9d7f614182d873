"""The photometric changes on a CPU: what the kernel is compared with."""

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as TF

from pretrain.kernels import CHANGES, fused_photometric, using
from pretrain.views.image import ImageViewConfig
from pretrain.views.photometric import (
    IMAGE_DRAWS,
    ImageChanges,
    blur_side,
    draw_changes,
    photometric,
    plain_photometric,
    separable_blur,
)
from pretrain.views.random import view_generator

NOTHING = dict(zip(CHANGES, (0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0), strict=True))


def some_pictures(views=2, batch=3, height=16, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, views, 3, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).transpose(0, 1)


def same_for_all(images, **changes):
    row = torch.tensor(list((NOTHING | changes).values()))
    return ImageChanges(rows=row.expand(*images.shape[:2], -1).clone())


def clamped(value):
    return min(max(value, 0.0), 1.0)


def changed_pixel(pixel, mean, change, threshold):
    """The changes of one pixel one after another, with hue by Python's own colorsys."""

    def gray(r, g, b):
        return 0.2989 * r + 0.587 * g + 0.114 * b

    r, g, b = (clamped(value * change["brightness"]) for value in pixel)
    share = change["contrast"]
    r, g, b = (clamped(share * value + (1.0 - share) * mean) for value in (r, g, b))
    share, level = change["saturation"], gray(r, g, b)
    r, g, b = (clamped(share * value + (1.0 - share) * level) for value in (r, g, b))
    h, s, v = colorsys.rgb_to_hsv(r, g, b)
    r, g, b = colorsys.hsv_to_rgb((h + change["hue"]) % 1.0, s, v)
    if change["grayscale"]:
        r = g = b = gray(r, g, b)
    if change["solarize"]:
        r, g, b = (1.0 - value if value >= threshold else value for value in (r, g, b))
    return r, g, b


@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "brightness": st.floats(0.0, 2.0),
            "contrast": st.floats(0.0, 2.0),
            "saturation": st.floats(0.0, 2.0),
            "hue": st.floats(-0.5, 0.5),
            "grayscale": st.sampled_from((0.0, 1.0)),
            "solarize": st.sampled_from((0.0, 1.0)),
        }
    )
)
def test_every_pixel_goes_through_the_changes_in_their_order(changes):
    image = some_pictures(1, 1, 3, 4)[0, 0].double() / 255.0  # hue is float32 in torchvision
    threshold = 0.4173  # which no pixel comes near to by chance
    found = plain_photometric(image, list((NOTHING | changes).values()), 3, threshold)
    bright = (image * changes["brightness"]).clamp(0.0, 1.0)
    weights = torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float64)
    mean = float((bright * weights.view(3, 1, 1)).sum(0).mean())
    for place in np.ndindex(3, 4):
        pixel = image[:, *place].tolist()
        expected = changed_pixel(pixel, mean, changes, threshold)
        before = changed_pixel(pixel, mean, changes | {"solarize": 0.0}, threshold)
        if min(abs(value - threshold) for value in before) > 1e-6:
            assert found[:, *place].tolist() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 16), st.integers(0, 20), st.floats(0.05, 20.0))
def test_the_separable_blur_is_torchvisions_own(halo, more, sigma):
    side = 2 * halo + 1
    image = some_pictures(1, 1, halo + 1 + more, halo + 2)[0, 0].double() / 255.0
    expected = TF.gaussian_blur(image, [side, side], [sigma, sigma])
    torch.testing.assert_close(separable_blur(image, side, sigma), expected, rtol=0.0, atol=1e-12)
    found = separable_blur(image.float(), side, sigma).double()
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)


def test_pictures_without_a_change_are_their_bytes_over_255():
    images = some_pictures()
    found = photometric(images, same_for_all(images), ImageViewConfig())
    assert torch.equal(found, images / 255.0)
    assert found.dtype == torch.float32


def test_a_flip_turns_left_and_right():
    images = some_pictures()
    found = photometric(images, same_for_all(images, flip=1.0), ImageViewConfig())
    assert torch.equal(found, images.flip(-1) / 255.0)


def test_the_threshold_itself_is_inverted_and_what_is_below_it_is_not():
    images = some_pictures()
    images[..., 0] = 127
    images[..., 1] = 128
    found = photometric(images, same_for_all(images, solarize=1.0), ImageViewConfig())
    torch.testing.assert_close(found[..., 0], torch.full_like(found[..., 0], 127 / 255))
    torch.testing.assert_close(found[..., 1], torch.full_like(found[..., 1], 127 / 255))


def test_each_picture_has_its_own_changes():
    images = some_pictures()
    rows = same_for_all(images).rows
    rows[0, 1, CHANGES.index("brightness")] = 0.5
    rows[1, 2, CHANGES.index("grayscale")] = 1.0
    found = photometric(images, ImageChanges(rows=rows), ImageViewConfig())
    expected = images / 255.0
    expected[0, 1] *= 0.5
    gray = TF.rgb_to_grayscale(expected[1, 2], num_output_channels=3)
    expected[1, 2] = gray
    torch.testing.assert_close(found, expected)


def test_a_result_in_bfloat16_is_rounded_once_at_the_end():
    images, config = some_pictures(), ImageViewConfig()
    changes = same_for_all(images, brightness=1.2, hue=0.1, blur_sigma=1.0)
    wide = photometric(images, changes, config)
    assert torch.equal(photometric(images, changes, config, torch.bfloat16), wide.bfloat16())


def of_before(generator, view, config):
    """The draws of a picture as they are defined, one after another from one generator."""
    chance = generator.random(5)
    factors = generator.uniform(-1.0, 1.0, size=4)
    sigma = generator.uniform(*config.blur_sigma)
    jitter = chance[1] < config.jitter_probability
    strengths = (config.brightness, config.contrast, config.saturation, config.hue)
    return [
        chance[0] < config.flip_probability,
        *(
            neutral + jitter * strength * factor
            for neutral, strength, factor in zip((1, 1, 1, 0), strengths, factors, strict=True)
        ),
        chance[2] < config.grayscale_probability,
        sigma * (chance[3] < config.blur_probability[view]),
        chance[4] < config.solarize_probability[view],
    ]


def test_the_changes_of_a_picture_are_those_that_its_generator_gives():
    config = ImageViewConfig(blur_probability=(0.8, 0.3), solarize_probability=(0.1, 0.6))
    keys = [[(7, 2, sample, view, "image") for sample in range(40)] for view in range(2)]
    draws = [[view_generator(*key).random(IMAGE_DRAWS) for key in row] for row in keys]
    found = draw_changes(torch.from_numpy(np.array(draws)), config).rows
    expected = [
        [of_before(view_generator(*key), view, config) for key in row]
        for view, row in enumerate(keys)
    ]
    torch.testing.assert_close(found, torch.tensor(np.array(expected), dtype=torch.float32))
    for column in range(len(CHANGES)):
        assert len(found[..., column].unique()) > 1, CHANGES[column]


def test_a_blur_is_a_tenth_of_the_picture_wide_odd_and_at_least_three_pixels():
    blurred = ImageViewConfig(blur_probability=(1.0, 0.1))
    assert [blur_side(width, blurred) for width in (16, 32, 96, 224, 512)] == [3, 3, 9, 23, 51]
    assert blur_side(512, ImageViewConfig()) == 3  # no view is blurred


@pytest.mark.parametrize(
    ("size", "side", "dtype", "message"),
    [
        ((4, 32), 3, torch.float32, "8 to 512 pixels"),
        ((32, 600), 3, torch.float32, "8 to 512 pixels"),
        ((200, 200), 67, torch.float32, "65 pixels"),
        ((200, 200), 22, torch.float32, "65 pixels"),
        ((16, 16), 33, torch.float32, "twice the picture"),
        ((32, 32), 3, torch.float16, "not torch.float16"),
    ],
)
def test_the_kernel_refuses_pictures_that_it_cannot_change(size, side, dtype, message):
    images = torch.zeros(1, 1, 3, *size, dtype=torch.uint8)
    with pytest.raises(ValueError, match=message):
        fused_photometric(images, torch.zeros(1, 1, len(CHANGES)), side, 128, dtype)


def test_the_kernel_refuses_rows_of_another_length_and_channels_that_lie_last():
    images, rows = torch.zeros(2, 3, 3, 16, 16, dtype=torch.uint8), torch.zeros(2, 3, len(CHANGES))
    with pytest.raises(ValueError, match="changes of shape"):
        fused_photometric(images, rows[..., :5], 3, 128, torch.float32)
    last = torch.zeros(2, 3, 16, 16, 3, dtype=torch.uint8).movedim(-1, 2)
    with pytest.raises(ValueError, match="not contiguous"):
        fused_photometric(last, rows, 3, 128, torch.float32)


def test_no_picture_takes_no_launch():
    with using("fused"):
        none = some_pictures(batch=0)
        assert photometric(none, same_for_all(none), ImageViewConfig()).shape == none.shape
