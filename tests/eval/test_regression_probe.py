"""Probes of tasks whose label is a number, and of parts that a set's authors fixed."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from sklearn.preprocessing import StandardScaler

from eval.fits import FitJob, fit_all_splits
from eval.floors import constant_split, shuffled_labels, tfidf_split
from eval.late_fusion import fuse_late, fuse_late_weighted
from eval.probe import ProbeConfig, probe
from eval.probe_report import format_table, report_from_json
from eval.records import to_json_text
from eval.regression import RegressionProblem, RidgeConfig, fit_ridge, ridge_path
from eval.report import write_report
from eval.splits import Split, SplitConfig, draws_of_fixed_parts, group_splits
from eval.subset_probe import SubsetInput, probe_subsets
from eval.subset_report import Measure
from tiny_tasks import write_intensities

QUICK = ProbeConfig(
    splits=SplitConfig(num_splits=2), num_random_backbones=1, representations=("text",)
)


def numbers(num_samples=200, dim=12, noise=0.3, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(num_samples, dim)) * np.linspace(0.1, 5.0, dim)
    raw = features @ generator.normal(size=dim) + noise * generator.normal(size=num_samples)
    return features, np.clip(raw / np.abs(raw).max() * 3.0, -3.0, 3.0)


def problem(labels, config=None):
    groups = [str(row) for row in range(len(labels))]
    strata = (labels > 0).astype(np.int64)
    (split,) = group_splits(strata, groups, SplitConfig(num_splits=1))
    return RegressionProblem(
        labels=labels,
        groups=groups,
        split=split,
        cuts="mosi",
        bounds=(-3.0, 3.0),
        config=config or RidgeConfig(),
    )


@pytest.mark.parametrize(("num_samples", "dim"), [(80, 6), (30, 90)])
def test_every_penalty_gives_scikit_learns_ridge(num_samples, dim):
    features, labels = numbers(num_samples, dim)
    rows, centred = StandardScaler().fit_transform(features), labels - labels.mean()
    penalties = (0.1, 3.0, 200.0)
    for weights, penalty in zip(ridge_path(rows, centred, penalties), penalties, strict=True):
        expected = Ridge(alpha=penalty, fit_intercept=False).fit(rows, centred).coef_
        np.testing.assert_allclose(weights, expected, atol=1e-8)


def test_the_penalty_is_the_one_with_the_least_error_on_validation():
    features, labels = numbers(120, 60, noise=3.0)
    given = problem(labels)
    fitted = given.fit(features, None)
    train, known = given.split.train, given.split.validation
    scaler = StandardScaler().fit(features[train])
    errors = {}
    for penalty in given.config.penalty:
        model = Ridge(alpha=penalty).fit(scaler.transform(features[train]), labels[train])
        guess = np.clip(model.predict(scaler.transform(features[known])), -3, 3)
        errors[penalty] = mean_absolute_error(labels[known], guess)
    assert fitted.penalty == min(errors, key=errors.get)
    assert fitted.validation_mae == pytest.approx(min(errors.values()))


def test_poisoned_test_rows_change_no_regression():
    features, labels = numbers()
    given = problem(labels)
    poisoned, wrong = features.copy(), labels.copy()
    poisoned[given.split.test], wrong[given.split.test] = 1e9, 0.0
    clean = given.fit(features, None)
    other = dataclasses.replace(given, labels=wrong).fit(poisoned, None)
    np.testing.assert_array_equal(clean.weight, other.weight)
    np.testing.assert_array_equal(clean.scaler.mean_, other.scaler.mean_)
    assert (clean.bias, clean.penalty) == (other.bias, other.penalty)


def test_predictions_stay_within_the_label_range():
    features, labels = numbers()
    fitted = fit_ridge((features, labels), (features, labels), RidgeConfig(), (-3.0, 3.0))
    votes = fitted.votes(100.0 * features)
    assert votes.shape == (200, 1)
    assert (votes.min(), votes.max()) == (-3.0, 3.0)


def test_floors_of_a_regression_are_the_mean_chance_and_words():
    features, labels = numbers(num_samples=300)
    given = problem(labels)
    constant = constant_split(given)
    train = labels[given.split.train]
    expected = np.abs(labels[given.split.test] - train.mean()).mean()
    assert constant.scores.values["mae"] == pytest.approx(expected)
    assert "pearson" in constant.scores.undefined
    shuffled = [shuffled_labels(given, seed=0)]
    job = FitJob(features=features.astype(np.float32), problems=[given], learned=shuffled)
    (chance,), (own,) = fit_all_splits(job), fit_all_splits(dataclasses.replace(job, learned=None))
    assert own.scores.values["mae"] < 0.5 * constant.scores.values["mae"]
    assert chance.scores.values["mae"] > 0.9 * constant.scores.values["mae"]
    words = [f"it is {round(label)} good" for label in labels]
    assert tfidf_split(words, given).scores.values["mae"] < 0.5


def test_numbers_of_several_modalities_are_averaged():
    features, labels = numbers(noise=2.0)
    given = problem(labels)
    jobs = [
        FitJob(features=features[:, part].astype(np.float32), problems=[given])
        for part in (slice(0, 6), slice(6, 12))
    ]
    ballots = {name: fit_all_splits(job)[0].ballot for name, job in zip("ab", jobs, strict=True)}
    fused = fuse_late(ballots, given)
    rows = given.split.test
    np.testing.assert_allclose(
        fused.predicted, (ballots["a"].votes[rows, 0] + ballots["b"].votes[rows, 0]) / 2
    )
    chosen = fuse_late_weighted(ballots, given)
    assert chosen.weights["b"] > chosen.weights["a"]  # the wider columns tell more


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
    whole = draws_of_fixed_parts(split, labels, groups, SplitConfig(train_share=1.0))
    assert all(np.array_equal(draw.train, split.train) for draw in whole)


def test_fixed_parts_that_cut_a_group_are_refused():
    split, groups = fixed_parts()
    groups[55] = groups[0]
    with pytest.raises(ValueError, match=r"1 groups lie in more than one part.*'g0'"):
        draws_of_fixed_parts(split, np.arange(60) % 2, groups, SplitConfig())


def fixed_report(gain, num_seeds=5):
    """A representation that knows so much of the labels, against noise, on one test part."""
    generator = np.random.default_rng(0)
    labels = generator.uniform(-3.0, 3.0, 240)
    groups = [f"v{row // 4}" for row in range(240)]
    rows = np.arange(240)
    parts = Split(train=rows[:140], validation=rows[140:180], test=rows[180:])
    strata = (labels > 0).astype(np.int64)
    draws = draws_of_fixed_parts(parts, strata, groups, SplitConfig(num_seeds=num_seeds))
    posed = [
        RegressionProblem(
            labels=labels,
            groups=groups,
            split=draw,
            cuts="mosi",
            bounds=(-3.0, 3.0),
            config=RidgeConfig(penalty=(1.0, 100.0)),
        )
        for draw in draws
    ]
    noise = generator.normal(size=(3, 240, 8)).astype(np.float32)
    own = noise[0] + gain * labels[:, None].astype(np.float32)
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
    assert fixed_report(gain=1.0, num_seeds=4).versus_random.beats is None


@pytest.fixture(scope="module")
def probed(checkpoint, tmp_path_factory):
    """A report of a regression task with the authors' parts."""
    task = write_intensities(tmp_path_factory.mktemp("intensities"))
    return task, probe(checkpoint, task, QUICK)


def test_a_regression_task_is_probed_with_its_floors_and_told_in_its_own_unit(probed):
    task, report = probed
    part = report.subsets["text"]
    assert set(part.floors) == {"mean", "shuffled", "tfidf", "random"}
    assert set(part.pretrained.metrics) == set(task.card.metrics)
    assert part.floors["tfidf"].metrics["mae"].mean < part.floors["mean"].metrics["mae"].mean
    assert len(part.pretrained.validation_mae) == 5
    assert report.protocol["splits"]["num_splits"] == 5
    assert "the draw of the training groups" in report.protocol["splits"]["varies"]
    assert "rounded half to even" in report.protocol["class_cuts"]
    words = " ".join(format_table(report).split())
    assert "mae (less is better)" in words
    assert "5 draws of 80 %" in words
    assert "%, step" not in words


def test_a_regression_report_comes_back_from_json_and_has_no_nan(probed):
    _, report = probed
    text = to_json_text(report.to_json())
    assert "NaN" not in text
    assert to_json_text(report_from_json(json.loads(text)).to_json()) == text


def test_the_page_of_a_run_shows_a_regression_without_percent(probed, checkpoint):
    page = write_report(checkpoint.run).read_text()
    assert "mae (less is better)" in page
    assert "mean label" in page


def test_random_splits_of_numbers_share_out_fifths_of_the_labels(checkpoint, tmp_path):
    task = write_intensities(tmp_path, fixed=False)
    report = probe(checkpoint, task, QUICK)
    assert report.subsets["text"].split_sizes[0]["test"] > 10
    assert report.protocol["splits"]["num_splits"] == 2
    assert report.shards["labels"]["zero"] == 10
