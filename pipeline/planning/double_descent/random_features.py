"""The curve of random features: error over the number of features, exactly solved.

Fourier features of contexts, as in Belkin et al. 2019 (arXiv:1812.11118), figure 2, and the linear
model on them with the least squares of its training samples; of several such models the one with the
smallest weights. The peak is where features are as many as samples: there a single model fits, and it
has large weights. Reads and writes nothing; the same task and seeds give the same numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.planning.double_descent.context_labels import ContextTask

SIMILARITY = 0.55
"""Similarity of two contexts that differ in one id; each further id multiplies it by the same. The
smaller it is, the less a few features can say."""
PARTS_OF_SAMPLES = (
    0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3, 5, 10,
)  # fmt: skip
"""Numbers of features that are tried, as multiples of the number of samples."""


@dataclass(frozen=True)
class FeatureSetting:
    """The samples that random features are fitted to."""

    samples: int = 200
    label_noise: float = 0.2
    """Share of training labels that are replaced by a uniformly random other one, which is the label
    noise of Nakkiran et al. 2020 (arXiv:1912.02292)."""
    seeds: Sequence[int] = (1, 2, 3, 4, 5)
    """Each draws samples, noise and features anew."""

    @property
    def features(self) -> list[int]:
        """Numbers of features that are tried, ascending."""
        return sorted({max(1, round(part * self.samples)) for part in PARTS_OF_SAMPLES})


@dataclass(frozen=True)
class FeatureFit:
    """One linear model on random features."""

    features: int
    seed: int
    train_error: float
    """Share of the training samples whose label, the noise included, has not the highest score."""
    test_error: float
    """The same for all contexts of the task that were no training samples, without noise."""
    train_square: float
    """Mean squared distance between the scores of a sample and its one-hot label."""
    test_square: float


def fit_random_features(task: ContextTask, setting: FeatureSetting) -> list[FeatureFit]:
    """Return a fit for each seed and number of features.

    The task needs more contexts than samples.
    """
    assert len(task.contexts) > setting.samples, "no context is left to test on"
    fits: list[FeatureFit] = []
    for seed in setting.seeds:
        fits += _fits_of_seed(task, setting, seed)
    return fits


def _fits_of_seed(task: ContextTask, setting: FeatureSetting, seed: int) -> list[FeatureFit]:
    # Samples, and labels with noise.
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(task.contexts))
    trained = order[: setting.samples]
    tested = order[setting.samples :]
    labels = task.labels[trained].copy()
    noisy = draw.permutation(setting.samples)[: round(setting.label_noise * setting.samples)]
    labels[noisy] += draw.integers(1, task.vocabulary, len(noisy))
    labels %= task.vocabulary

    # All features; a smaller model has the first ones of a larger one.
    weights, phases = _draw_features(task, max(setting.features), draw)
    inputs = _features(task, trained, weights, phases)
    test_inputs = _features(task, tested, weights, phases)
    wanted = np.eye(task.vocabulary)[labels]
    test_wanted = np.eye(task.vocabulary)[task.labels[tested]]
    fits: list[FeatureFit] = []
    for number in setting.features:
        solution = np.linalg.lstsq(inputs[:, :number], wanted, rcond=None)[0]
        scores = inputs[:, :number] @ solution
        test_scores = test_inputs[:, :number] @ solution
        fits.append(
            FeatureFit(
                features=number,
                seed=seed,
                train_error=_error(scores, wanted),
                test_error=_error(test_scores, test_wanted),
                train_square=_square(scores, wanted),
                test_square=_square(test_scores, test_wanted),
            )
        )
    return fits


def _draw_features(
    task: ContextTask, number: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw weights `(length, vocabulary, number)` and phases `(number,)` of cos(w x + phase).

    x: the one-hot context. Two contexts that differ in h ids differ in 2 h entries, so with weights
    of variance v their similarity, the features' mean product, is exp(-v h).
    Source: Rahimi and Recht 2007, "Random features for large-scale kernel machines".
    """
    length = task.contexts.shape[1]
    deviation = math.sqrt(-math.log(SIMILARITY))
    weights = draw.normal(0.0, deviation, (length, task.vocabulary, number))
    return weights, draw.uniform(0.0, 2 * math.pi, number)


def _features(
    task: ContextTask, chosen: np.ndarray, weights: np.ndarray, phases: np.ndarray
) -> np.ndarray:
    """Return the features `(chosen, number)` of some contexts."""
    contexts = task.contexts[chosen]
    sums = np.zeros((len(chosen), weights.shape[2]))
    for place in range(contexts.shape[1]):
        sums += weights[place, contexts[:, place]]
    return np.cos(sums + phases)


def _error(scores: np.ndarray, wanted: np.ndarray) -> float:
    return float((scores.argmax(1) != wanted.argmax(1)).mean())


def _square(scores: np.ndarray, wanted: np.ndarray) -> float:
    return float(((scores - wanted) ** 2).sum(1).mean())
