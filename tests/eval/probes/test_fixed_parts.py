"""Parts that a set's authors fixed: training draws, resampled test parts, verdicts."""

import numpy as np
import pytest

from eval.probes.linear_probe import LinearProbeConfig, SplitProblem
from eval.probes.regression import RegressionProblem, RidgeConfig
from eval.probes.subset_probe import SubsetInput, probe_subsets
from eval.probes.subset_report import Measure
from eval.splits import Split, SplitConfig, draws_of_fixed_parts, num_draws


def fixed_parts(num_groups=30):
    groups = [f"g{row // 2}" for row in range(2 * num_groups)]
    rows = np.arange(2 * num_groups)
    return Split(train=rows[:40], validation=rows[40:50], test=rows[50:]), groups


def test_draws_of_fixed_parts_differ_in_training_alone_and_keep_groups_whole():
    split, groups = fixed_parts()
    labels = (np.arange(60) // 2 % 3).astype(np.int64)
    draws = draws_of_fixed_parts(split, labels, groups, SplitConfig())
    assert len(draws) == 5
    assert len({tuple(draw.train) for draw in draws}) == 5
    for draw in draws:
        np.testing.assert_array_equal(draw.test, split.test)
        np.testing.assert_array_equal(draw.validation, split.validation)
        assert set(draw.train) <= set(split.train)
        assert set(labels[draw.train]) == {0, 1, 2}
        drawn = {groups[row] for row in draw.train}
        assert all(row in draw.train for row in split.train if groups[row] in drawn)
    assert num_draws(draws) == 5
    whole = draws_of_fixed_parts(split, labels, groups, SplitConfig(train_share=1.0))
    assert (len(whole), num_draws(whole)) == (5, 1)


def test_fixed_parts_that_cut_a_group_are_refused():
    split, groups = fixed_parts()
    groups[55] = groups[0]
    with pytest.raises(ValueError, match=r"1 groups lie in more than one part.*'g0'"):
        draws_of_fixed_parts(split, np.arange(60) % 2, groups, SplitConfig())


def test_few_groups_give_equal_draws_which_count_once():
    labels = (np.arange(12) // 2 % 2).astype(np.int64)  # two training groups of each class
    parts = Split(train=np.arange(8), validation=np.arange(8, 10), test=np.arange(10, 12))
    groups = [f"g{row // 2}" for row in range(12)]
    draws = draws_of_fixed_parts(parts, labels, groups, SplitConfig(num_seeds=20, train_share=0.5))
    assert num_draws(draws) == 4


def fixed_report(gain, config=None, test_units=None, shift=None):
    """A representation that knows so much of the labels, against noise, on one test part."""
    generator = np.random.default_rng(0)
    labels = generator.uniform(-3.0, 3.0, 240)
    groups = [f"v{row // 4}" for row in range(240)]
    rows = np.arange(240)
    parts = Split(
        train=rows[:140], validation=rows[140:180], test=rows[180:], test_units=test_units
    )
    strata = (labels > 0).astype(np.int64)
    draws = draws_of_fixed_parts(parts, strata, groups, config or SplitConfig())
    posed = [
        RegressionProblem(
            labels=labels,
            groups=groups,
            split=draw,
            cuts="none",
            bounds=(-3.0, 3.0),
            config=RidgeConfig(penalty=(1.0, 100.0)),
        )
        for draw in draws
    ]
    noise = generator.normal(size=(3, 240, 8)).astype(np.float32)
    own = noise[0] + gain * labels[:, None].astype(np.float32)
    if shift is not None:
        own[180:] += shift[:, None]
    given = SubsetInput(
        subset="text",
        pretrained=own,
        random={"0": noise[1], "1": noise[2]},
        texts=None,
        problems=posed,
        measure=Measure(classes=(), metrics=("mae", "pearson"), metric="mae", sign=-1, fixed=True),
    )
    return probe_subsets([given])["text"]


def test_a_lower_error_on_one_fixed_test_part_is_a_gain_with_a_bootstrapped_interval():
    part = fixed_report(gain=1.0)
    own, random = part.pretrained.metrics["mae"], part.floors["random"].metrics["mae"]
    assert own.mean < 0.5 * random.mean
    assert own.interval.low < own.mean < own.interval.high
    assert own.sd > 0.0
    assert part.versus_random.difference.mean == pytest.approx(random.mean - own.mean)
    assert part.versus_random.beats is True
    assert "bootstrapped" in part.versus_random.reason
    assert part.floors["mean"].undefined["pearson"].startswith("in 5 of 5 fits: constant")


def test_noise_beats_no_noise_and_four_seeds_give_no_verdict():
    assert fixed_report(gain=0.0).versus_random.beats is False
    assert fixed_report(gain=1.0, config=SplitConfig(num_seeds=4)).versus_random.beats is None


def test_seeds_that_all_train_on_the_whole_part_give_no_verdict():
    found = fixed_report(gain=1.0, config=SplitConfig(train_share=1.0)).versus_random
    assert found.difference.sd == 0.0
    assert found.beats is None
    assert "1 different training draws among 5 seeds, at least 5 needed" in found.reason


def test_clips_of_one_cut_video_are_resampled_together_and_widen_the_interval():
    videos = tuple(f"w{place // 10}" for place in range(60))  # six, whose clips err alike
    shift = np.repeat(np.array([4, -4, 3, -3, 0, 0], dtype=np.float32), 10)

    def width(units):
        span = fixed_report(1.0, test_units=units, shift=shift).pretrained.metrics["mae"].interval
        return span.high - span.low

    alone = tuple(map(str, range(60)))
    assert width(videos) > 1.5 * width(alone)


def test_a_split_keeps_its_test_units_beside_the_rows_that_stay():
    parts = Split(
        train=np.array([0]),
        validation=np.array([1]),
        test=np.array([2, 3, 4]),
        test_units=("a", "b", "a"),
    )
    mask = np.array([True, True, True, False, True])
    assert parts.restricted_to(mask).test_units == ("a", "a")


def test_calibration_has_no_interval_on_one_fixed_test_part():
    generator = np.random.default_rng(0)
    labels = (np.arange(120) % 2).astype(np.int64)
    groups, rows = [str(row) for row in range(120)], np.arange(120)
    parts = Split(train=rows[:60], validation=rows[60:80], test=rows[80:])
    posed = [
        SplitProblem(
            labels=labels, groups=groups, split=draw, num_classes=2, config=LinearProbeConfig()
        )
        for draw in draws_of_fixed_parts(parts, labels, groups, SplitConfig())
    ]
    clouds = (generator.normal(size=(2, 120, 4)) + labels[:, None]).astype(np.float32)
    given = SubsetInput(
        subset="text",
        pretrained=clouds[0],
        random={"0": clouds[1]},
        texts=None,
        problems=posed,
        measure=Measure(classes=("a", "b"), metrics=("macro_f1",), metric="macro_f1", fixed=True),
    )
    found = probe_subsets([given])["text"].pretrained.metrics
    assert found["calibration_error"].mean > 0.0
    assert found["calibration_error"].interval is None
    assert found["macro_f1"].interval is not None
