"""The hyperbola of steps and tokens, against the curve that made the points."""

import math

import numpy as np
import pytest

from pipeline.errors import RequirementError
from pipeline.planning.batch_size.hyperbola import (
    Hyperbola,
    StepsToTarget,
    fit_hyperbola,
)

TRUE = Hyperbola(1000, 2048)
BATCHES = [2**power for power in range(5, 18)]
STEPS = (
    65_000, 33_000, 17_000, 9_000, 5_000, 3_000, 2_000, 1_500, 1_250, 1_125, 1_062.5, 1_031.25,
    1_015.625,
)  # fmt: skip


def results(steps: list[float], batches: list[int] = BATCHES) -> list[StepsToTarget]:
    return [StepsToTarget(batch, each) for batch, each in zip(batches, steps, strict=True)]


def test_steps_and_examples_by_hand() -> None:
    assert TRUE.fewest_total == 2_048_000
    assert [TRUE.steps(batch) for batch in BATCHES] == list(STEPS)
    assert TRUE.total(2048) == 2 * TRUE.fewest_total
    for batch in BATCHES:
        products = (TRUE.steps(batch) / 1000 - 1) * (TRUE.total(batch) / 2_048_000 - 1)
        assert products == pytest.approx(1)


def test_the_fit_returns_the_curve() -> None:
    fitted = fit_hyperbola(results(list(STEPS)), resamples=20)
    assert fitted.curve.fewest_steps == pytest.approx(1000, rel=1e-7)
    assert fitted.curve.critical_batch == pytest.approx(2048, rel=1e-7)
    assert fitted.scatter == pytest.approx(0, abs=1e-7)
    assert fitted.critical_batch.width == pytest.approx(0, abs=1e-6)


def test_steps_read_off_at_evaluations_every_25_steps() -> None:
    evaluated = [25 * math.ceil(steps / 25) for steps in STEPS]
    fitted = fit_hyperbola(results(evaluated), resamples=20)
    assert round(fitted.curve.fewest_steps, 1) == 1007.9
    assert round(fitted.curve.critical_batch) == 2028
    assert fitted.critical_batch.low < 2028 < fitted.critical_batch.high


def noisy(batches: list[int], share: float, seed: int) -> list[StepsToTarget]:
    noise = np.random.default_rng(seed).normal(0, share, len(batches))
    return results(
        [TRUE.steps(b) * math.exp(n) for b, n in zip(batches, noise, strict=True)], batches
    )


@pytest.mark.parametrize("seed", range(20))
def test_small_batches_alone_are_refused(seed: int) -> None:
    """Batches of 32 to 256 with 5 % noise: E rises by an eighth of what it rises up to B_crit."""
    with pytest.raises(RequirementError, match=r"batches of 32 to 256 do not bracket .* larger"):
        fit_hyperbola(noisy([32, 64, 128, 256], 0.05, seed), resamples=50)


def test_large_batches_alone_are_refused() -> None:
    with pytest.raises(RequirementError, match=r"do not bracket .* add smaller batches$"):
        fit_hyperbola(noisy([16_384, 32_768, 65_536, 131_072], 0.01, 1), resamples=50)


def test_too_few_batches_are_refused() -> None:
    points = results([65_000, 2_000, 1_015.625] * 2, [32, 2048, 131_072] * 2)
    with pytest.raises(RequirementError, match="3 batches have reached the target"):
        fit_hyperbola(points)


def even_batches(number: int) -> list[int]:
    """Return batches from 128 to 32,768, even in logs, with 2,048 in their middle."""
    return [round(batch) for batch in np.geomspace(128, 32_768, number)]


@pytest.mark.parametrize("number", [4, 6, 8])
def test_the_interval_holds_the_truth_as_often_as_it_says(number: int) -> None:
    """95 % of 60 draws are 57; 5 % of noise."""
    held = 0
    for seed in range(100, 160):
        points = noisy(even_batches(number), 0.05, seed)
        interval = fit_hyperbola(points, resamples=60, seed=seed).critical_batch
        held += interval.low < 2048 < interval.high
    assert 53 <= held <= 60


@pytest.mark.parametrize(("number", "quantile"), [(4, 4.303), (6, 2.776), (8, 2.447)])
def test_the_interval_is_that_of_students_t(number: int, quantile: float) -> None:
    """With little noise log S is linear in log S_min and log B_crit: least squares by hand.

    d log S / d log B_crit = 1 / (1 + B / B_crit), whose spread over the batches decides the error.
    """
    points = noisy(even_batches(number), 0.01, seed=1)
    fitted = fit_hyperbola(points, resamples=1000)
    slopes = np.array([1 / (1 + point.batch / 2048) for point in points])
    error = fitted.scatter / np.sqrt(np.sum((slopes - slopes.mean()) ** 2))
    interval = fitted.critical_batch
    width = math.log(interval.high / interval.low)
    assert width == pytest.approx(2 * quantile * error, rel=0.1)


def test_a_band_holds_its_curve() -> None:
    fitted = fit_hyperbola(noisy(BATCHES, 0.05, 0), resamples=100)
    for batch in (32, 2048, 131_072):
        band = fitted.steps(batch)
        assert band.low < band.value < band.high
        assert band.value == fitted.curve.steps(batch)
    assert fitted.scatter == pytest.approx(0.05, rel=0.2)
    assert fitted.fewest_total.value == pytest.approx(fitted.curve.total(1e-9))
