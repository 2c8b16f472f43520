"""FLOP arithmetic against published figures."""

import pytest

from pipeline.model.costs import ModelSize, counted_peak, flops_utilisation

PALM = ModelSize(540_350_000_000, head_parameters=0, layers=118, attention_width=48 * 256)
"""540.35e9 parameters, 118 layers, 48 heads of 256 (Chowdhery et al. 2022, table 1)."""


def test_flops_per_token_by_hand() -> None:
    size = ModelSize(1000, head_parameters=300, layers=2, attention_width=8)
    attention = 2 * 8 * 16  # L d T: a forward pass is 2 of them, a backward pass 4
    assert size.flops_per_token(16) == 6 * 1000 + 6 * attention
    assert (
        size.recomputing_flops_per_token(16) == 6 * 1000 + 6 * attention + 2 * 700 + 2 * attention
    )


def test_palm_540b_is_what_the_paper_computes_but_for_half_of_its_attention() -> None:
    """Sequences of 2,048; 238.3 thousand tokens/s on 6,144 TPU v4 of 275 TFLOP/s give 46.2 % with
    all of the attention, and 45.7 % without any (section 4.1 and appendix B)."""
    causal, weights = PALM.flops_per_token(2048), 6 * PALM.parameters

    def share(per_token: float) -> float | None:
        return flops_utilisation(238_300, per_token, 6144, 275e12)

    assert share(weights) == pytest.approx(0.457, abs=0.001)
    assert share(2 * causal - weights) == pytest.approx(0.462, abs=0.001)
    assert share(causal) == pytest.approx((0.457 + 0.462) / 2, abs=0.001)


def test_a_mixture_of_experts_has_no_utilisation() -> None:
    """Every expert would be counted, though a token goes through a few."""
    name = "NVIDIA H100 80GB HBM3"
    peaks = [counted_peak(name, is_mixture) for is_mixture in (False, True)]
    assert peaks == [989e12, None]
    assert flops_utilisation(1e6, 6e9, 1, peaks[1]) is None
