import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.views.audio_noise import philox, white_noise
from pretrain.views.random import (
    PURPOSES,
    below,
    between,
    draw_doubles,
    happens,
    view_generator,
)

counts = st.dictionaries(st.sampled_from(PURPOSES), st.integers(1, 13), min_size=1, max_size=4)
samples = st.lists(
    st.tuples(st.integers(0, 2**31), st.integers(0, 2**63 - 1)), min_size=1, max_size=5
)


@given(st.integers(0, 2**64 - 1), samples, counts)
def test_a_batch_draws_what_the_generators_of_its_samples_draw(seed, batch, wanted):
    epochs, ids = (np.array(column, dtype=np.int64) for column in zip(*batch, strict=True))
    drawn = draw_doubles(seed, epochs, ids, wanted)
    assert drawn.shape == (2, len(batch), sum(wanted.values()))
    for row, (epoch, sample_id) in enumerate(batch):
        for view in range(2):
            one_by_one = [
                view_generator(seed, epoch, sample_id, view, purpose).random(count)
                for purpose, count in wanted.items()
            ]
            assert np.array_equal(drawn[view, row], np.concatenate(one_by_one))


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_noise_is_made_of_the_published_philox(counter, key, expected):
    """The known answers of Random123, the authors' own implementation."""
    words = philox(
        tuple(torch.tensor([word]) for word in counter), tuple(torch.tensor([w]) for w in key)
    )
    assert tuple(word.item() for word in words) == expected


def test_noise_is_normal_and_each_clip_has_its_own():
    keys = torch.tensor([[[1, 2], [1, 3]], [[2, 2], [0xFFFFFFFF, 0]]])
    noise = white_noise(keys, 50_001)
    assert noise.shape == (2, 2, 50_001)
    assert noise.mean(-1).abs().max() < 0.02
    assert (noise.std(-1) - 1.0).abs().max() < 0.02
    inside = (noise.abs() < 1.0).float().mean(-1)  # the share of a normal law: 0.6827
    assert (inside - math.erf(math.sqrt(0.5))).abs().max() < 0.01
    together = torch.corrcoef(noise.flatten(0, 1)) - torch.eye(4)
    assert together.abs().max() < 0.02
    after = (noise[..., 1:] * noise[..., :-1]).mean(-1)
    assert after.abs().max() < 0.02
    assert torch.equal(white_noise(keys[:, 1:], 7), noise[:, 1:, :7])


@given(st.integers(1, 10**9))
def test_a_whole_number_is_never_the_count_itself(count):
    ends = torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)
    assert below(ends, count).tolist() == [0, count - 1]


def test_a_chance_is_that_of_its_view_and_a_range_is_met_from_end_to_end():
    draws = torch.tensor([[0.0, 0.4, 0.6], [0.0, 0.4, 0.6]], dtype=torch.float64)
    assert happens(draws, (0.5, 0.0)).tolist() == [[True, True, False], [False, False, False]]
    assert between(draws[0], (-2.0, 3.0)).tolist() == pytest.approx([-2.0, 0.0, 1.0])
