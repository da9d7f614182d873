"""The linear probe with few labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.probes.few_shot import FewShotConfig, draw_few, few_shot_name, few_shot_problems
from eval.probes.linear_probe import LinearProbeConfig, SplitProblem
from eval.probes.regression import RegressionProblem, RidgeConfig
from eval.splits import Split, SplitConfig, group_splits, num_draws, strata_of

STRATA = st.lists(st.integers(0, 6), min_size=1, max_size=400).map(np.array)
SHARES = st.floats(0.001, 0.999)


@given(strata=STRATA, share=SHARES, seed=st.integers(0, 99))
def test_of_every_class_its_share_is_drawn_and_one_at_the_least(strata, share, seed):
    drawn = draw_few(strata, share, seed)
    assert len(set(drawn.tolist())) == len(drawn)
    assert drawn.tolist() == sorted(drawn.tolist())
    for stratum in np.unique(strata):
        count = int((strata == stratum).sum())
        found = int((strata[drawn] == stratum).sum())
        assert 1 <= found <= count
        assert abs(found - share * count) <= 1.0


@given(strata=STRATA, shares=st.tuples(SHARES, SHARES), seed=st.integers(0, 99))
def test_a_smaller_share_draws_some_of_the_same_rows(strata, shares, seed):
    few, many = (draw_few(strata, share, seed) for share in sorted(shares))
    assert set(few.tolist()) <= set(many.tolist())


def test_draws_are_the_same_again_and_differ_from_seed_to_seed():
    strata = np.arange(300) % 3
    draws = [draw_few(strata, 0.1, seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert set(draws[0].tolist()) != set(draws[2].tolist())


def test_every_sample_is_about_as_likely_as_its_like():
    strata = np.array([0] * 40 + [1] * 10)
    counts = np.zeros(50)
    for seed in range(2000):
        counts[draw_few(strata, 0.1, seed)] += 1
    assert counts[:40].min() > 140 < counts[40:].min()  # 200 expected, deviation 13
    assert counts.max() < 260


def class_problems(num_splits=3):
    labels = (np.arange(600) % 3).astype(np.int64)
    groups = [str(row // 2) for row in range(600)]
    return [
        SplitProblem(
            labels=labels, groups=groups, split=split, num_classes=3, config=LinearProbeConfig()
        )
        for split in group_splits(labels, groups, SplitConfig(num_splits=num_splits))
    ]


def test_only_the_training_part_becomes_small_and_each_split_has_a_draw_of_its_own():
    problems = class_problems()
    few = few_shot_problems(problems, 0.05)
    for whole, part in zip(problems, few, strict=True):
        assert set(part.split.train) < set(whole.split.train)
        assert len(part.split.train) == pytest.approx(0.05 * len(whole.split.train), abs=3)
        assert set(part.labels[part.split.train]) == {0, 1, 2}
        np.testing.assert_array_equal(part.split.validation, whole.split.validation)
        np.testing.assert_array_equal(part.split.test, whole.split.test)


def test_one_training_part_that_all_seeds_share_gives_as_many_draws_as_seeds():
    few = few_shot_problems([class_problems(1)[0]] * 5, 0.1)
    assert num_draws([problem.split for problem in few]) == 5


def test_of_numbers_every_fifth_of_the_training_values_is_drawn():
    labels = np.random.default_rng(0).uniform(-3.0, 3.0, 300)
    rows = np.arange(300)
    problem = RegressionProblem(
        labels=labels,
        groups=[str(row) for row in rows],
        split=Split(train=rows[:200], validation=rows[200:250], test=rows[250:]),
        cuts="mosi",
        bounds=(-3.0, 3.0),
        config=RidgeConfig(),
    )
    (few,) = few_shot_problems([problem], 0.01)
    fifths = strata_of(labels[rows[:200]])
    assert sorted(fifths[few.split.train]) == [0, 1, 2, 3, 4]


def test_names_tell_the_share():
    assert [few_shot_name(share) for share in (0.005, 0.01, 0.1)] == [
        "few-shot 0.5 %",
        "few-shot 1 %",
        "few-shot 10 %",
    ]


@pytest.mark.parametrize("shares", [(), (0.0,), (1.0,), (0.1, 0.05), (0.1, 0.1)])
def test_shares_that_make_no_sense_are_refused(shares):
    with pytest.raises(ValueError, match=r"few_shot\.shares"):
        FewShotConfig(shares=shares)
