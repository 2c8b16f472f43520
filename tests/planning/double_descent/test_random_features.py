"""The curve of random features: peak at as many features as samples, second descent below the first."""

import numpy as np
import pytest
from token_rules import ruled_tokens

from pipeline.planning.double_descent.context_labels import ContextTask, context_task
from pipeline.planning.double_descent.curve_shape import descent_shape, interpolation_threshold
from pipeline.planning.double_descent.random_features import (
    FeatureFit,
    FeatureSetting,
    fit_random_features,
)


@pytest.fixture(scope="module")
def task() -> ContextTask:
    return context_task([ruled_tokens(100_000, seed=1)], vocabulary=8, length=4)


@pytest.fixture(scope="module")
def fits(task: ContextTask) -> list[FeatureFit]:
    """Vocabulary 8, context 4, 200 samples, 20 % label noise, 5 seeds."""
    return fit_random_features(task, FeatureSetting())


def curve(fits: list[FeatureFit], measure: str) -> dict[float, dict[int, float]]:
    values: dict[float, dict[int, float]] = {}
    for fit in fits:
        values.setdefault(fit.features, {})[fit.seed] = getattr(fit, measure)
    return values


@pytest.mark.parametrize("measure", ["test_error", "test_square"])
def test_the_peak_is_at_as_many_features_as_samples(fits: list[FeatureFit], measure: str) -> None:
    shape = descent_shape(curve(fits, measure))
    assert shape is not None
    assert shape.peak.x == 200
    assert shape.has_peak
    assert shape.seeds == 5


@pytest.mark.parametrize("measure", ["test_error", "test_square"])
def test_the_second_descent_ends_below_the_first(fits: list[FeatureFit], measure: str) -> None:
    shape = descent_shape(curve(fits, measure))
    assert shape is not None
    assert shape.is_below_first
    assert shape.last_minimum.x == 2000


def test_from_as_many_features_as_samples_on_noise_is_fitted_exactly(
    fits: list[FeatureFit],
) -> None:
    squares = curve(fits, "train_square")
    assert interpolation_threshold(squares, 1e-6) == 200
    assert all(fit.train_error == 0 for fit in fits if fit.features >= 200)


def test_the_peak_moves_with_the_samples(task: ContextTask) -> None:
    fits = fit_random_features(task, FeatureSetting(samples=100))
    shape = descent_shape(curve(fits, "test_error"))
    assert shape is not None
    assert shape.peak.x == 100


def test_a_seed_draws_the_same_samples_noise_and_features(task: ContextTask) -> None:
    once = fit_random_features(task, FeatureSetting(samples=20, seeds=(3,)))
    again = fit_random_features(task, FeatureSetting(samples=20, seeds=(1, 3)))
    assert [fit for fit in again if fit.seed == 3] == once


def test_label_noise_is_the_share_of_wrong_labels() -> None:
    """As many features as samples fit all noisy labels; a constant label shows how many are wrong."""
    contexts = np.stack(np.meshgrid(range(4), range(4), range(4)), -1).reshape(-1, 3)
    task = ContextTask(4, contexts, np.zeros(64, np.int64))
    setting = FeatureSetting(samples=40, label_noise=0.25, seeds=(1,))
    smallest = fit_random_features(task, setting)[0]
    # Two features cannot single out a context: they give all the one label that is right for most.
    assert smallest.features == 2
    assert smallest.train_error == 0.25
    assert smallest.test_error == 0
