import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.splits import Split, SplitConfig, group_splits, refuse_leakage


def rows(*places):
    return np.array(places, dtype=np.int64)


def labelled(num_groups, num_classes, seed):
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 4, num_groups)
    groups = [f"g{group}" for group, size in enumerate(sizes) for _ in range(size)]
    labels = np.repeat(generator.permutation(np.arange(num_groups) % num_classes), sizes)
    return labels.astype(np.int64), groups


@settings(deadline=None, max_examples=30)
@given(num_groups=st.integers(12, 60), num_classes=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_splits_keep_groups_whole_use_every_sample_and_train_every_class(
    num_groups, num_classes, seed
):
    labels, groups = labelled(num_groups, num_classes, seed)
    for split in group_splits(labels, groups, SplitConfig(num_splits=3, seed=seed)):
        refuse_leakage(split, groups)
        used = np.sort(np.concatenate([split.train, split.validation, split.test]))
        np.testing.assert_array_equal(used, np.arange(len(labels)))
        assert set(labels[split.train]) == set(range(num_classes))


def test_shares_of_classes_are_as_asked_when_groups_are_single_samples():
    labels = np.repeat(np.arange(4), 50).astype(np.int64)
    groups = [str(place) for place in range(200)]
    for split in group_splits(labels, groups, SplitConfig()):
        for part, count in ((split.train, 25), (split.validation, 10), (split.test, 15)):
            np.testing.assert_array_equal(np.bincount(labels[part]), [count] * 4)


def test_equal_seeds_give_equal_splits_and_others_do_not():
    labels, groups = labelled(40, 3, seed=1)
    one, again = (group_splits(labels, groups, SplitConfig(seed=5)) for _ in range(2))
    other = group_splits(labels, groups, SplitConfig(seed=6))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(one, other, strict=True))


def test_the_order_of_the_samples_changes_no_split():
    labels, groups = labelled(40, 3, seed=2)
    order = np.random.default_rng(0).permutation(len(labels))
    plain = group_splits(labels, groups, SplitConfig(num_splits=2))
    shuffled = [groups[place] for place in order]
    mixed = group_splits(labels[order], shuffled, SplitConfig(num_splits=2))
    for one, other in zip(plain, mixed, strict=True):
        assert {groups[row] for row in one.test} == {groups[order[row]] for row in other.test}


def test_a_group_on_two_sides_is_refused_and_named():
    split = Split(train=rows(0, 1), validation=rows(2), test=rows(3))
    with pytest.raises(ValueError, match=r"1 groups lie in more than one part.*'same'"):
        refuse_leakage(split, ["a", "same", "b", "same"])


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least two classes"):
        group_splits(np.zeros(9, dtype=np.int64), list("abcdefghi"), SplitConfig())


def test_two_groups_are_too_few():
    with pytest.raises(ValueError, match="at least three groups"):
        group_splits(np.array([0, 1, 0, 1]), list("aabb"), SplitConfig())


@pytest.mark.parametrize(
    "shares", [{"test_share": 0.0}, {"test_share": 0.6, "validation_share": 0.5}]
)
def test_shares_that_leave_no_training_part_are_refused(shares):
    with pytest.raises(ValueError, match="splits"):
        SplitConfig(**shares)
