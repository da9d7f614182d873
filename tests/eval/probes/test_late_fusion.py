"""Decision-level fusion, the table of missing modalities, and arms with several seeds."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval.comparison import compare
from eval.probes.arm_comparison import average_seeds, compare_arms
from eval.probes.late_fusion import Ballot, fuse_late, fuse_late_weighted, vote
from eval.probes.linear_probe import FittedProbe, LinearProbeConfig, SplitProblem, fit_split
from eval.probes.missing import WANTED, missing_modality
from eval.splits import SplitConfig, group_splits


def problem_of(labels):
    groups = [str(row) for row in range(len(labels))]
    (split,) = group_splits(labels, groups, SplitConfig(num_splits=1))
    classes = int(labels.max()) + 1
    return SplitProblem(
        labels=labels, groups=groups, split=split, num_classes=classes, config=LinearProbeConfig()
    )


def ballot_of(labels, share_right, seed, has=None):
    """Votes of a probe that is right so often, and never sure."""
    generator = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    right = generator.random(len(labels)) < share_right
    said = np.where(right, labels, (labels + generator.integers(1, classes, len(labels))) % classes)
    probabilities = 0.4 * np.eye(classes)[said] + 0.6 * generator.dirichlet(
        np.ones(classes), len(labels)
    )
    has = np.ones(len(labels), dtype=bool) if has is None else has
    return Ballot(votes=probabilities * has[:, None], has=has)


LABELS = np.arange(600, dtype=np.int64) % 3


def test_votes_of_independent_probes_beat_each_of_them():
    ballots = {name: ballot_of(LABELS, 0.7, seed) for seed, name in enumerate("abc")}
    problem = problem_of(LABELS)
    alone = [fuse_late({name: made}, problem).scores.macro_f1 for name, made in ballots.items()]
    assert fuse_late(ballots, problem).scores.macro_f1 > max(alone)


def test_weights_chosen_on_validation_silence_a_modality_that_knows_nothing():
    ballots = {"good": ballot_of(LABELS, 0.9, 0), "noise": ballot_of(LABELS, 1 / 3, 1)}
    problem = problem_of(LABELS)
    chosen = fuse_late_weighted(ballots, problem)
    assert chosen.weights["good"] > 0.7
    assert chosen.scores.macro_f1 > fuse_late(ballots, problem).scores.macro_f1


def test_samples_that_no_modality_votes_on_choose_no_weights():
    problem = problem_of(LABELS)
    known = problem.split.validation[:40]
    has = np.zeros(len(LABELS), dtype=bool)
    has[[*known, *problem.split.test]] = True
    ballots = {"a": ballot_of(LABELS, 0.7, 31, has), "b": ballot_of(LABELS, 0.6, 32, has)}
    only = dataclasses.replace(problem, split=dataclasses.replace(problem.split, validation=known))
    chosen = fuse_late_weighted(ballots, only).weights
    assert fuse_late_weighted(ballots, problem).weights == chosen


def test_weights_do_not_depend_on_test():
    ballots = {"one": ballot_of(LABELS, 0.7, 0), "other": ballot_of(LABELS, 0.6, 1)}
    problem = problem_of(LABELS)
    before = fuse_late_weighted(ballots, problem).weights
    labels = LABELS.copy()
    labels[problem.split.test] = (labels[problem.split.test] + 1) % 3
    after = fuse_late_weighted(ballots, dataclasses.replace(problem, labels=labels)).weights
    assert before == after


def test_equal_candidates_leave_the_vote_even():
    one = ballot_of(LABELS, 0.7, 0)
    found = fuse_late_weighted({"one": one, "copy": one}, problem_of(LABELS))
    assert found.weights == {"one": 0.5, "copy": 0.5}


@given(weights=st.tuples(*[st.floats(0.0, 1.0)] * 3), seed=st.integers(0, 50))
def test_a_vote_is_a_distribution_over_the_modalities_that_a_sample_has(weights, seed):
    generator = np.random.default_rng(seed)
    has = generator.random((30, 3)) < 0.6
    has[~has.any(axis=1), 0] = True
    labels = np.arange(30, dtype=np.int64) % 3
    ballots = {str(k): ballot_of(labels, 0.5, seed + k, has[:, k]) for k in range(3)}
    made = vote(ballots, weights)
    np.testing.assert_allclose(made.sum(axis=1), 1.0)
    for row in np.flatnonzero(has.sum(axis=1) == 1):
        only = ballots[str(int(np.argmax(has[row])))]
        np.testing.assert_allclose(made[row], only.votes[row])


def test_probabilities_of_a_probe_agree_with_its_predictions_and_with_scikit_learn():
    generator = np.random.default_rng(0)
    for classes in (2, 3):
        labels = np.arange(200, dtype=np.int64) % classes
        features = generator.normal(size=(200, 6)) + labels[:, None]
        fitted: FittedProbe = fit_split(features, problem_of(labels))
        made = fitted.votes(features)
        np.testing.assert_allclose(made.sum(axis=1), 1.0)
        assert (made.argmax(axis=1) == fitted.predict(features)).all()
        logits = fitted.scaler.transform(features) @ fitted.weight.T + fitted.bias
        odds = np.exp(logits[:, 1] - logits[:, 0])
        np.testing.assert_allclose(made[:, 1] / made[:, 0], odds)


def test_one_seed_each_is_the_plain_paired_t_interval():
    generator = np.random.default_rng(0)
    first, second = generator.random(12), generator.random(12)
    found = compare_arms([first.tolist()], [second.tolist()], 0.4)
    test = stats.ttest_rel(first, second).confidence_interval(0.95)
    plain = found.difference.interval_uncorrected
    assert (plain.low, plain.high) == pytest.approx((test.low, test.high))
    assert found.difference == compare(first.tolist(), second.tolist(), 0.4).difference
    assert found.seed_sds == (None, None)


def test_seeds_are_averaged_split_by_split_before_pairing():
    generator = np.random.default_rng(1)
    seeds, other = generator.random((3, 10)), generator.random(10)
    found = compare_arms(seeds.tolist(), [other.tolist()], 0.4)
    np.testing.assert_allclose(found.difference.per_split, seeds.mean(axis=0) - other)
    assert found.seed_sds[0] == pytest.approx(seeds.mean(axis=1).std(ddof=1))


def test_the_corrected_verdict_is_the_harder_one():
    gains = [0.02 + 0.02 * (-1) ** place for place in range(10)]
    found = compare_arms([[0.3 + gain for gain in gains]], [[0.3] * 10], 0.43)
    assert found.beats is True
    assert found.beats_corrected is False
    assert compare_arms([[0.9] * 9], [[0.1] * 9], 0.4).beats is None


def test_arms_with_other_splits_are_not_paired():
    with pytest.raises(ValueError, match="cannot pair 10 splits with 9"):
        compare_arms([[0.1] * 10], [[0.1] * 9], 0.4)
    with pytest.raises(ValueError, match=r"got \[9, 10\]"):
        average_seeds([[0.1] * 10, [0.1] * 9])


def table(means, num_seeds=2, num_splits=10, seed=0):
    generator = np.random.default_rng(seed)
    split = generator.normal(scale=0.02, size=num_splits)  # shared: the scores are paired
    return {
        name: (mean + split + generator.normal(scale=0.002, size=(num_seeds, num_splits))).tolist()
        for name, mean in means.items()
    }


def test_fused_is_compared_with_its_best_part():
    means = dict.fromkeys(WANTED, 0.4) | {"fused_text_image_audio": 0.5, "image": 0.45}
    found = missing_modality(table(means), 0.43)
    assert found.whole == "fused_text_image_audio"
    assert found.best_part == "image"
    assert found.whole_minus_best.beats is True
    assert found.beaten is False
    assert len(found.losses) == 6
    assert found.losses["fused_text"].difference.mean == pytest.approx(0.1, abs=0.01)


def test_a_part_that_beats_the_whole_is_told():
    means = dict.fromkeys(WANTED, 0.4) | {"fused_text_audio": 0.45}
    found = missing_modality(table(means), 0.43)
    assert (found.best_part, found.beaten) == ("fused_text_audio", True)


def test_a_task_of_two_modalities_has_three_subsets():
    names = ("text", "image", "fused_text", "fused_image", "fused_text_image")
    found = missing_modality(table(dict.fromkeys(names, 0.4)), 0.43)
    assert found.whole == "fused_text_image"
    assert set(found.scores) == set(names)
    with pytest.raises(ValueError, match="every fused subset"):
        missing_modality(table(dict.fromkeys(names[:-1], 0.4)), 0.43)
