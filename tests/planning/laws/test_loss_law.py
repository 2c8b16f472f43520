"""Laws of the loss and critical batches, by hand."""

import math

import pytest

from pipeline.errors import ConfigError
from pipeline.planning.laws.loss_law import (
    CHINCHILLA_REFIT,
    KAPLAN_PARAMETERS,
    KAPLAN_TOKENS,
    LossLaw,
    critical_batch_tokens,
)

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
    assert critical_batch_tokens(2.0) == pytest.approx(7.38e6, rel=5e-4)
    assert critical_batch_tokens(3.0) == pytest.approx(1.07e6, rel=5e-3)


def test_kaplans_laws() -> None:
    """Kaplan et al. 2020, equations 1.1 and 1.2, at 1e8 parameters and at 1e9 tokens."""
    assert f"{KAPLAN_PARAMETERS.loss(1e8):.4f}" == "2.8300"
    assert f"{KAPLAN_TOKENS.loss(1e9):.4f}" == "2.8156"


def test_the_optimal_loss_is_that_of_the_optimum() -> None:
    assert SIMPLE.optimal_loss(6 * 64 * 64) == pytest.approx(1 + 2 + 2)


def test_an_optimum_of_absurd_exponents_is_a_number() -> None:
    law = LossLaw("few points", 1.0, 1e9, 0.01, 1e-9, 0.01)
    assert law.optimal_parameters(1e20) == pytest.approx(math.exp(200))
    assert math.isfinite(law.optimal_loss(1e20))


def test_bits_become_nats() -> None:
    bits = LossLaw("bits", 1.0, 16.0, 0.5, 16.0, 0.5, unit="bits")
    nats = bits.in_nats()
    assert nats.unit == "nats"
    assert nats.loss(64, 256) == pytest.approx(bits.loss(64, 256) * math.log(2))
    assert nats.in_nats() is nats


def test_bits_per_byte_are_no_nats() -> None:
    law = LossLaw("mine", 1.0, 16.0, 0.5, 16.0, 0.5, unit="bits-per-byte")
    with pytest.raises(
        ConfigError, match=r"bits per byte, and nats a token are needed.*--unit nats"
    ):
        law.in_nats()
