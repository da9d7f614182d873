import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_sharding.batch import DecodedSample
from pretrain.views import NaturalViewConfig, TextViewConfig, TextVocabulary, TrainCrops
from pretrain.views.natural import draw_alternatives

VOCABULARY = TextVocabulary(
    mask_id=4, special=np.arange(40) < 5, continuation=np.zeros(40, dtype=bool)
)


def a_sample(sample_id=0, epoch=0, **changes):
    parts = {
        "token_ids": torch.tensor([2, 10, 3]),
        "image": torch.full((3, 9, 9), 10, dtype=torch.uint8),
        "waveform": torch.full((200,), 0.1),
        "alternatives": {
            "text": (torch.tensor([2, 20, 21, 3]), torch.tensor([2, 30, 3])),
            "image": (torch.full((3, 7, 8), 200, dtype=torch.uint8),),
            "audio": (torch.full((150,), 0.9),),
        },
    }
    return DecodedSample(
        key="k", sample_id=sample_id, epoch=epoch, text=None, metadata=None, **parts | changes
    )


def crops(**natural):
    return TrainCrops(
        seed=0, size_pixels=8, crop_scale=(0.5, 1.0), clip_samples=100, max_tokens=6,
        vocabulary=VOCABULARY, text=TextViewConfig(mask_probability=(0.0, 0.0)),
        natural=NaturalViewConfig(**natural),
    )  # fmt: skip


def test_the_two_views_show_two_captions_two_pictures_two_recordings():
    seen = set()
    for number in range(40):
        tensors = crops()(a_sample(number))
        first, second = (tuple(ids[mask].tolist()) for ids, mask in
                         zip(tensors.token_ids, tensors.token_mask, strict=True))  # fmt: skip
        assert first != second
        seen |= {(first[1], second[1])}
        assert sorted(tensors.image.float().mean((1, 2, 3)).tolist()) == [10.0, 200.0]
        assert sorted(tensors.waveform.mean(1).mul(10).round().tolist()) == [1.0, 9.0]
    assert len(seen) == 6  # every pair of three captions, in both orders


def test_without_alternatives_or_chance_both_views_show_the_first():
    alone = crops()(a_sample(alternatives={}))
    never = crops(text=0.0, image=0.0, audio=0.0)(a_sample())
    for tensors in (alone, never):
        assert tensors.token_ids[:, :3].tolist() == [[2, 10, 3]] * 2
    assert torch.equal(alone.image, never.image)
    assert torch.equal(alone.waveform, never.waveform)


def test_alternatives_of_a_missing_part_are_not_shown():
    tensors = crops()(a_sample(token_ids=None, image=None))
    assert not tensors.token_mask.any()
    assert not tensors.image.any()


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 10**9), st.integers(1, 7))
def test_which_alternatives_are_shown_depends_on_the_sample_alone(seed, epoch, sample_id, count):
    key = (seed, epoch, sample_id, "text", count)
    first, second = draw_alternatives(*key, 1.0)
    assert draw_alternatives(*key, 1.0) == (first, second)
    assert 0 <= min(first, second) <= max(first, second) < count
    assert first != second or count == 1


def test_natural_pairs_are_as_frequent_as_their_chance():
    pairs = [draw_alternatives(0, 0, n, "audio", 3, 0.25) for n in range(2000)]
    natural = sum(first != second for first, second in pairs) / len(pairs)
    assert 0.2 < natural < 0.3
    assert all(pair == (0, 0) for pair in pairs if pair[0] == pair[1])
