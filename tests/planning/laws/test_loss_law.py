"""Loss fits and critical batches, by hand."""

import pytest

from pipeline.planning.laws.loss_law import CHINCHILLA_REFIT, LossLaw, critical_batch_tokens

SIMPLE = LossLaw("simple", 1.0, 16.0, 0.5, 16.0, 0.5)


def test_loss_by_hand() -> None:
    assert SIMPLE.loss(64, 256) == 1 + 2 + 1


def test_equal_factors_and_exponents_divide_compute_equally() -> None:
    assert SIMPLE.optimal_parameters(600) == pytest.approx(10)
    assert SIMPLE.optimal_tokens(600) == pytest.approx(10)


@pytest.mark.parametrize("flops", [1e18, 5.76e23])
def test_neighbours_of_the_optimum_are_worse(flops: float) -> None:
    best = CHINCHILLA_REFIT.optimal_parameters(flops)
    losses = [
        CHINCHILLA_REFIT.loss(parameters, flops / 6 / parameters)
        for parameters in (0.9 * best, best, 1.1 * best)
    ]
    assert min(losses) == losses[1]
    assert best * CHINCHILLA_REFIT.optimal_tokens(flops) == pytest.approx(flops / 6)


def test_chinchillas_compute_asks_for_about_twenty_tokens_a_parameter() -> None:
    """Besiroglu et al. 2024: the refit agrees with the rule of Chinchilla (70B, 1.4T tokens)."""
    flops = 6 * 70e9 * 1.4e12
    ratio = CHINCHILLA_REFIT.optimal_tokens(flops) / CHINCHILLA_REFIT.optimal_parameters(flops)
    assert 15 < ratio < 30


def test_critical_batch_by_kaplans_formula() -> None:
    assert critical_batch_tokens(1.0) == 2e8
    assert critical_batch_tokens(2.0) == pytest.approx(2e8 / 2**4.7619, rel=1e-4)
