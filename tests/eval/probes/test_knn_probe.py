"""kNN probe: nearest training samples of frozen features."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from eval.probes.knn_probe import KnnProbeConfig, fit_knn
from eval.probes.linear_probe import LinearProbeConfig, SplitProblem
from eval.probes.regression import RegressionProblem, RidgeConfig
from eval.splits import SplitConfig, group_splits, strata_of


def posed(labels, groups=None):
    groups = groups or [str(row) for row in range(len(labels))]
    (split,) = group_splits(strata_of(labels), groups, SplitConfig(num_splits=1))
    if np.issubdtype(labels.dtype, np.integer):
        return SplitProblem(
            labels=labels,
            groups=groups,
            split=split,
            num_classes=int(labels.max()) + 1,
            config=LinearProbeConfig(),
        )
    return RegressionProblem(
        labels=labels,
        groups=groups,
        split=split,
        cuts="mosi",
        bounds=(-3.0, 3.0),
        config=RidgeConfig(),
    )


def clouds(count=120, num_classes=3, seed=0, distance=1.0):
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % num_classes
    centres = generator.normal(size=(num_classes, 6)) * distance
    features = centres[labels] + generator.normal(size=(count, 6))
    return features * np.array([1.0, 100.0, 1.0, 1.0, 0.01, 1.0]), labels


def unit_parts(features, split):
    scaler = StandardScaler().fit(features[split.train])
    for part in (split.train, split.test):
        rows = scaler.transform(features[part])
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99),
    neighbours=st.integers(1, 30),
    temperature=st.sampled_from([0.05, 0.3, 1e6]),
)
def test_votes_are_scikit_learns_probabilities_for_any_neighbours_and_temperature(
    seed, neighbours, temperature
):
    features, labels = clouds(seed=seed)
    problem = posed(labels)
    config = KnnProbeConfig(num_neighbours=(neighbours,), temperature=(temperature,))
    found = fit_knn(features, problem, config).votes(features[problem.split.test])
    train, test = unit_parts(features, problem.split)
    model = KNeighborsClassifier(
        neighbours,
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: np.exp(-distance / temperature),
    ).fit(train, labels[problem.split.train])
    np.testing.assert_allclose(found, model.predict_proba(test), atol=1e-6)


def test_a_large_temperature_is_scikit_learns_plain_vote():
    features, labels = clouds(num_classes=2, distance=0.4)
    problem = posed(labels)
    config = KnnProbeConfig(num_neighbours=(7,), temperature=(1e9,))
    votes = fit_knn(features, problem, config).votes(features[problem.split.test])
    train, test = unit_parts(features, problem.split)
    model = KNeighborsClassifier(7, metric="cosine").fit(train, labels[problem.split.train])
    np.testing.assert_array_equal(problem.decide(votes), model.predict(test))


def test_numbers_are_scikit_learns_weighted_means_of_neighbours():
    features, _ = clouds()
    labels = np.clip(features[:, 0] + features[:, 2], -3.0, 3.0)
    problem = posed(labels)
    config = KnnProbeConfig(num_neighbours=(9,), temperature=(0.2,))
    found = fit_knn(features, problem, config)
    train, test = unit_parts(features, problem.split)
    model = KNeighborsRegressor(
        9, metric="cosine", weights=lambda distance: np.exp(-distance / 0.2)
    ).fit(train, labels[problem.split.train])
    votes = found.votes(features[problem.split.test])
    np.testing.assert_allclose(votes[:, 0], model.predict(test), atol=1e-6)
    known = problem.split.validation
    error = np.abs(found.votes(features[known])[:, 0] - labels[known]).mean()
    assert found.mark == pytest.approx(-error)


def test_validation_chooses_the_best_of_the_grid():
    features, labels = clouds(distance=0.6, seed=3)
    problem, grid = posed(labels), KnnProbeConfig(num_neighbours=(1, 5, 40), temperature=(0.1, 1.0))
    best = fit_knn(features, problem, grid)
    marks = {
        (count, temperature): fit_knn(
            features,
            problem,
            KnnProbeConfig(num_neighbours=(count,), temperature=(temperature,)),
        ).mark
        for count in grid.num_neighbours
        for temperature in grid.temperature
    }
    assert best.mark == max(marks.values()) > min(marks.values())
    assert marks[best.num_neighbours, best.temperature] == best.mark


def test_of_equals_the_most_neighbours_and_the_evenest_vote_are_taken():
    features, labels = clouds(distance=50.0)
    found = fit_knn(features, posed(labels), KnnProbeConfig(num_neighbours=(1, 3, 5)))
    assert (found.num_neighbours, found.temperature, found.mark) == (5, 1.0, 1.0)


def test_more_neighbours_than_training_samples_are_all_of_them():
    features, labels = clouds(count=30)
    problem = posed(labels)
    config = KnnProbeConfig(num_neighbours=(500,))
    assert fit_knn(features, problem, config).num_neighbours == len(problem.split.train)


def test_nothing_is_chosen_or_scaled_by_the_test_part():
    features, labels = clouds(distance=0.5)
    problem = posed(labels)
    before, test = fit_knn(features, problem, KnnProbeConfig()), problem.split.test
    altered, others = features.copy(), labels.copy()
    altered[test] = 1e6
    others[test] = (labels[test] + 1) % 3
    after = fit_knn(altered, dataclasses.replace(problem, labels=others), KnnProbeConfig())
    assert (after.num_neighbours, after.temperature, after.mark) == (
        before.num_neighbours,
        before.temperature,
        before.mark,
    )
    known = features[problem.split.validation]
    np.testing.assert_array_equal(after.votes(known), before.votes(known))


def test_a_group_in_two_parts_is_refused():
    features, labels = clouds()
    problem = posed(labels)
    torn = list(problem.groups)
    torn[problem.split.test[0]] = torn[problem.split.train[0]]
    with pytest.raises(ValueError, match="more than one part"):
        fit_knn(features, dataclasses.replace(problem, groups=torn), KnnProbeConfig())


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("num_neighbours", ()),
        ("num_neighbours", (0,)),
        ("num_neighbours", (5, 1)),
        ("num_neighbours", (1, 1)),
        ("temperature", ()),
        ("temperature", (0.0,)),
        ("temperature", (0.2, 0.1)),
        ("temperature", (0.1, float("inf"))),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(name, grid):
    with pytest.raises(ValueError, match=rf"knn\.{name}"):
        KnnProbeConfig(**{name: grid})
