"""The noise scale of gradients whose signal and noise are known, by hand."""

import pytest

from pipeline.engine.noise_average import MEMORY_STEPS, NoiseScale


def test_two_batch_sizes_give_signal_and_noise() -> None:
    """A true gradient of squared norm 9 and one token's variance 40: 9 + 40 / 10 over ten tokens, 9
    + 40 / 40 over forty."""
    scale = NoiseScale().after_step(small=13, small_tokens=10, large=10, large_tokens=40)
    assert scale.signal == pytest.approx(0.05 * 9)
    assert scale.noise == pytest.approx(0.05 * 40)
    assert scale.tokens == pytest.approx(40 / 9)


def test_a_signal_of_4_and_a_trace_of_800_have_a_scale_of_200() -> None:
    """4 + 800 / 8 = 104 over eight tokens, 4 + 800 / 64 = 16.5 over sixty-four."""
    scale = NoiseScale().after_step(small=104, small_tokens=8, large=16.5, large_tokens=64)
    assert scale.tokens == pytest.approx(200)


def test_single_steps_are_averaged_before_the_ratio_is_taken() -> None:
    """Steps whose signals are 1 and 3 and whose noises are 10 and 50: the newer one weighs 1 / 0.95
    of the older."""
    scale = NoiseScale()
    for signal, noise in ((1, 10), (3, 50)):
        scale = scale.after_step(signal + noise / 2, 2, signal + noise / 4, 4)
    assert scale.tokens == pytest.approx((0.95 * 10 + 50) / (0.95 * 1 + 3))


def test_estimates_that_make_no_sense_have_no_scale() -> None:
    assert NoiseScale().tokens is None
    assert (
        NoiseScale().after_step(small=100, small_tokens=1, large=1, large_tokens=2).tokens is None
    )


def test_the_memory_is_how_many_steps_an_average_is_over() -> None:
    """After 80 steps, 20 measurements, an old one weighs 0.95^20 = 0.36 of a new one: 1/e."""
    assert MEMORY_STEPS == 80
    old = NoiseScale(signal=1.0, noise=0.0)
    for _ in range(MEMORY_STEPS // 4):
        old = old.after_step(0, 1, 0, 2)
    assert old.signal == pytest.approx(0.95**20)
