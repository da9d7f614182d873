"""What a score must be seen beside: a constant, shuffled labels, and n-grams for text.

The constant is the commonest class of the training part, or its mean where the label is a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from eval.metrics import score
from eval.probes.linear_probe import (
    LinearProbeConfig,
    Predictions,
    SplitProblem,
    SplitResult,
    count_unconverged,
    predict,
    refuse_absent_classes,
    regularisation_path,
)
from eval.probes.regression import Problem, RegressionProblem
from eval.splits import Split, refuse_leakage

TFIDF_GRID_FACTOR = 1e3
"""A TF-IDF row has length 1, a standardised one sqrt(dim): the grid of C moves up with it."""


def constant_split(problem: Problem) -> SplitResult:
    """One prediction for all of the test part, made without any feature."""
    predicted = problem.constant()
    return SplitResult(
        scores=problem.score(problem.split.test, predicted),
        inverse_regularisation=None,
        num_unconverged=0,
        predicted=predicted,
    )


def shuffled_labels(problem: Problem, seed: int) -> Predictions:
    """Labels permuted within training and within validation, to teach a probe with.

    Tested on the true ones: what comes out is chance, given the class sizes.
    """
    generator = np.random.default_rng(seed)
    learned = problem.labels.copy()
    for rows in (problem.split.train, problem.split.validation):
        learned[rows] = problem.labels[generator.permutation(rows)]
    return learned


@dataclass(frozen=True, kw_only=True)
class UnitRowsFit:
    """A classifier of rows of about unit length."""

    model: LogisticRegression
    inverse_regularisation: float
    """The C that validation chose."""
    num_unconverged: int


def tfidf_split(texts: Sequence[str], problem: Problem) -> SplitResult:
    """Logistic or ridge regression on TF-IDF of character n-grams in words (1 to 4, any script).

    Vocabulary and weights come from the training part, the strength from validation.

    Raises:
        ValueError: As `eval.probes.linear_probe.fit_split`; or no training text holds a character.
    """
    rows, test = tfidf_rows(texts, problem.split), problem.split.test
    if isinstance(problem, RegressionProblem):
        return _ridge_split(rows, problem)
    fitted = fit_unit_rows(rows, problem)
    predicted = predict(fitted.model, csr_matrix(rows[test]))
    return SplitResult(
        scores=score(problem.labels[test], predicted, problem.num_classes),
        inverse_regularisation=fitted.inverse_regularisation,
        num_unconverged=fitted.num_unconverged,
        predicted=predicted,
    )


def _ridge_split(rows: csr_matrix, problem: RegressionProblem) -> SplitResult:
    """Ridge regression of rows of about unit length."""
    split, labels = problem.split, problem.labels
    refuse_leakage(split, problem.groups)
    grid = [value / TFIDF_GRID_FACTOR for value in problem.config.penalty]
    path = [Ridge(alpha=value).fit(rows[split.train], labels[split.train]) for value in grid]

    def predicted(model: Ridge, part: np.ndarray) -> np.ndarray:
        return np.clip(np.asarray(model.predict(rows[part])), *problem.bounds)

    known = labels[split.validation]
    marks = [float(np.abs(predicted(model, split.validation) - known).mean()) for model in path]
    best = len(marks) - 1 - int(np.argmin(marks[::-1]))  # of equals the strongest
    guess = predicted(path[best], split.test)
    return SplitResult(
        scores=problem.score(split.test, guess),
        inverse_regularisation=1.0 / grid[best],
        num_unconverged=0,
        predicted=guess,
    )


def tfidf_rows(texts: Sequence[str], split: Split) -> csr_matrix:
    """TF-IDF of all texts; vocabulary and weights come from the training part."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    vectorizer.fit([texts[row] for row in split.train])
    return csr_matrix(vectorizer.transform(texts))


def fit_unit_rows(rows: csr_matrix, problem: SplitProblem) -> UnitRowsFit:
    """Fit rows of about unit length on the training part; the C comes from validation.

    Raises:
        ValueError: As `eval.probes.linear_probe.fit_split`.
    """
    split, labels, classes = problem.split, problem.labels, problem.num_classes
    refuse_leakage(split, problem.groups)
    refuse_absent_classes(labels[split.train], classes)
    grid = LinearProbeConfig(
        inverse_regularisation=tuple(
            TFIDF_GRID_FACTOR * value for value in problem.config.inverse_regularisation
        ),
        max_iterations=problem.config.max_iterations,
    )
    path = regularisation_path(csr_matrix(rows[split.train]), labels[split.train], grid)
    known, truth = csr_matrix(rows[split.validation]), labels[split.validation]
    marks = [score(truth, predict(model, known), classes).macro_f1 for model in path]
    best = int(np.argmax(marks))
    return UnitRowsFit(
        model=path[best],
        inverse_regularisation=grid.inverse_regularisation[best],
        num_unconverged=count_unconverged(path),
    )
