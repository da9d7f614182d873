import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from eval.probes.fits import FitJob, fit_all_splits
from eval.probes.floors import constant_split, shuffled_labels, tfidf_split
from eval.probes.linear_probe import LinearProbeConfig, SplitProblem, fit_probe
from eval.splits import Split, SplitConfig, group_splits


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):
        yield


def clouds(num_samples=120, dim=20, num_classes=3, distance=1.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(num_samples) % num_classes
    centres = generator.normal(size=(num_classes, dim)) * distance
    features = centres[labels] + generator.normal(size=(num_samples, dim))
    return features * np.linspace(0.1, 9.0, dim), labels.astype(np.int64)


def problem(labels, config=None, seed=0):
    groups = [str(place) for place in range(len(labels))]
    split = group_splits(labels, groups, SplitConfig(num_splits=1, seed=seed))[0]
    return SplitProblem(
        labels=labels,
        groups=groups,
        split=split,
        num_classes=int(labels.max()) + 1,
        config=config or LinearProbeConfig(),
    )


def probed(features, given, learned=None):
    taught = None if learned is None else [learned]
    job = FitJob(features=features.astype(np.float32), problems=[given], learned=taught)
    (fit,) = fit_all_splits(job)
    return fit


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("dim", [8, 60, 300])  # Newton, L-BFGS, L-BFGS in the span of the rows
def test_the_probe_equals_plain_scikit_learn(num_classes, dim):
    features, labels = clouds(dim=dim, num_classes=num_classes, distance=0.4)
    given = problem(labels, LinearProbeConfig(inverse_regularisation=(0.01,), max_iterations=5000))
    train, test = given.split.train, given.split.test
    scaler = StandardScaler().fit(features[train])
    plain = LogisticRegression(C=0.01, max_iter=5000).fit(
        scaler.transform(features[train]), labels[train]
    )
    expected = plain.predict(scaler.transform(features[test]))
    found = probed(features, given).scores.macro_f1
    assert found == pytest.approx(f1_score(labels[test], expected, average="macro"))


def test_poisoned_test_rows_change_nothing_that_is_fitted():
    features, labels = clouds()
    split = problem(labels).split
    poisoned = features.copy()
    poisoned[split.test] = 1e9

    def fitted(matrix):
        parts = [(matrix[rows], labels[rows]) for rows in (split.train, split.validation)]
        return fit_probe(*parts, num_classes=3, config=LinearProbeConfig())

    clean, other = fitted(features), fitted(poisoned)
    np.testing.assert_array_equal(clean.scaler.mean_, other.scaler.mean_)
    np.testing.assert_array_equal(clean.scaler.scale_, other.scaler.scale_)
    np.testing.assert_array_equal(clean.weight, other.weight)
    assert clean.inverse_regularisation == other.inverse_regularisation


def test_the_scaler_has_seen_the_training_part_alone():
    features, labels = clouds()
    given = problem(labels)
    train, known = given.split.train, given.split.validation
    fitted = fit_probe(
        (features[train], labels[train]), (features[known], labels[known]), 3, given.config
    )
    np.testing.assert_allclose(fitted.scaler.mean_, features[train].mean(axis=0))


def test_validation_chooses_the_regularisation():
    features, labels = clouds(distance=0.3, dim=60)
    given = problem(labels)
    chosen = probed(features, given).inverse_regularisation
    train, known = given.split.train, given.split.validation
    scaler = StandardScaler().fit(features[train])
    marks = {}
    for strength in given.config.inverse_regularisation:
        model = LogisticRegression(C=strength, max_iter=5000)
        model.fit(scaler.transform(features[train]), labels[train])
        guess = model.predict(scaler.transform(features[known]))
        marks[strength] = f1_score(labels[known], guess, average="macro")
    assert marks[chosen] == pytest.approx(max(marks.values()), abs=0.03)


def test_a_split_with_a_group_on_both_sides_is_refused():
    features, labels = clouds()
    given = problem(labels)
    leaking = dataclasses.replace(given, groups=["one"] * len(labels))
    with pytest.raises(ValueError, match="more than one part"):
        probed(features, leaking)


def test_a_class_without_training_rows_is_refused():
    features, labels = clouds()
    given = dataclasses.replace(problem(labels), num_classes=4)
    with pytest.raises(ValueError, match="no training row has the class 3"):
        probed(features, given)


def test_an_empty_part_is_refused():
    features, labels = clouds()
    given = problem(labels)
    empty = np.array([], dtype=np.int64)
    split = Split(train=given.split.train, validation=given.split.validation, test=empty)
    with pytest.raises(ValueError, match="test part of a split is empty"):
        probed(features, dataclasses.replace(given, split=split))


def test_fits_that_reach_the_bound_of_iterations_are_counted():
    features, labels = clouds(distance=0.2)
    config = LinearProbeConfig(inverse_regularisation=(1.0, 10.0), max_iterations=1)
    assert probed(features, problem(labels, config)).num_unconverged == 2


def test_a_constant_feature_does_no_harm():
    features, labels = clouds()
    features[:, 3] = 7.0
    assert probed(features, problem(labels)).scores.macro_f1 > 0.9


def test_the_majority_floor_is_the_share_of_the_commonest_class():
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10, dtype=np.int64)
    found = constant_split(problem(labels)).scores
    assert found.accuracy == pytest.approx(0.6)
    assert found.balanced_accuracy == pytest.approx(1 / 3)
    assert found.macro_f1 == pytest.approx((2 * 0.6 / 1.6) / 3)


def test_shuffled_labels_fall_to_chance_where_true_ones_do_not():
    features, labels = clouds(num_samples=600)
    given = problem(labels)
    assert probed(features, given).scores.accuracy > 0.95
    learned = shuffled_labels(given, seed=0)
    assert probed(features, given, learned).scores.accuracy < 0.5


def test_the_text_floor_reads_words_of_the_training_part_alone():
    labels = (np.arange(90) % 3).astype(np.int64)
    words = ("cat", "tree", "bus")
    given = problem(labels)
    texts = [f"a {words[label]} {place}" for place, label in enumerate(labels)]
    assert tfidf_split(texts, given).scores.accuracy == 1.0
    for row in given.split.test:
        texts[row] = "unseen"
    assert tfidf_split(texts, given).scores.accuracy < 0.5


def test_a_grid_that_does_not_ascend_is_refused():
    with pytest.raises(ValueError, match="must ascend"):
        LinearProbeConfig(inverse_regularisation=(1.0, 0.1))
