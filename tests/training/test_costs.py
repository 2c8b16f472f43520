"""FLOP arithmetic against published figures."""

import pytest

from pipeline.training.costs import flops_per_token, model_flops_utilisation, peak_flops


def test_flops_per_token_by_hand() -> None:
    assert flops_per_token(1000, layers=2, hidden=8, sequence_length=16) == 6 * 1000 + 12 * 2 * 8 * 16


def test_palm_540b_is_what_the_paper_computes() -> None:
    """540.35e9 parameters, 118 layers, 48 heads of 256, sequences of 2,048; 238.3 thousand tokens/s on 6,144 TPU v4 of
    275 TFLOP/s give 46.2 % (Chowdhery et al. 2022, section 4.1 and appendix B)."""
    per_token = flops_per_token(540_350_000_000, layers=118, hidden=48 * 256, sequence_length=2048)
    assert model_flops_utilisation(238_300, per_token, 6144, 275e12) == pytest.approx(0.462, abs=0.001)


def test_peaks_go_by_the_devices_name() -> None:
    assert peak_flops("NVIDIA H200") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("CPU") is None
    assert model_flops_utilisation(1.0, 1.0, 1, None) is None
