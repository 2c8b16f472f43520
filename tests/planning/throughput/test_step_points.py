"""Throughput and efficiency of measured steps, by hand."""

import math
from dataclasses import replace

import pytest

from pipeline.planning.throughput.step_points import (
    StepPoint,
    efficiency,
    numbers_of_devices,
    of_scaling,
    reference_rate,
    spread_of_repeats,
)

ONE = StepPoint("one", "reference", 1, 1, 1000, 0.5, 0.0)
WEAK = StepPoint("weak", "weak", 4, 1, 4000, 0.8, 6.0, exposed_share=0.25)
STRONG = StepPoint("strong", "strong", 4, 1, 1000, 0.25, 6.0)


def test_efficiency_is_the_rate_over_that_of_as_many_single_devices() -> None:
    """2,000 tokens a second of one device; 4 of them reach 5,000 weakly and 4,000 strongly."""
    assert reference_rate([ONE, WEAK, STRONG]) == pytest.approx(2000)
    assert efficiency(WEAK, 2000) == pytest.approx(0.625)
    assert efficiency(STRONG, 2000) == pytest.approx(0.5)
    assert WEAK.tokens_per_device == 1000
    assert STRONG.tokens_per_device == 250


def test_a_quarter_in_communication_leaves_three_quarters() -> None:
    assert WEAK.seconds_without == pytest.approx(0.6)
    assert STRONG.seconds_without is None


def test_the_reference_belongs_to_both_ways_of_scaling() -> None:
    points = [STRONG, WEAK, ONE]
    assert of_scaling(points, "weak") == [ONE, WEAK]
    assert of_scaling(points, "strong") == [ONE, STRONG]
    assert numbers_of_devices(points) == [1, 4]


def test_repeats_tell_the_error_of_a_median() -> None:
    """Two runs that are a factor of e^0.2 apart: 0.1 on both sides, one degree of freedom."""
    assert spread_of_repeats([ONE, WEAK]) is None
    slower = replace(ONE, seconds=ONE.seconds * math.exp(0.2))
    assert spread_of_repeats([ONE, slower, WEAK]) == (pytest.approx(math.sqrt(0.02)), 1)
