"""Probes of tasks whose label is a number."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from sklearn.preprocessing import StandardScaler

from eval.pages.report import write_report
from eval.probes.fits import FitJob, fit_all_splits
from eval.probes.floors import constant_split, shuffled_labels, tfidf_split
from eval.probes.late_fusion import fuse_late, fuse_late_weighted
from eval.probes.probe import ProbeConfig, probe
from eval.probes.probe_report import format_table, report_from_json
from eval.probes.regression import RegressionProblem, RidgeConfig, fit_ridge, ridge_path
from eval.records import to_json_text
from eval.splits import SplitConfig, group_splits
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
