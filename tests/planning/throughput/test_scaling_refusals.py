"""What is not fitted and not predicted, by its message."""

import pytest

from pipeline.errors import RequirementError
from pipeline.planning.throughput.scaling_refusals import (
    refuse_far_prediction,
    refuse_unfit_steps,
)
from pipeline.planning.throughput.step_points import StepPoint

ONE = StepPoint("one", "reference", 1, 1, 1000, 0.5, 0.0)


def test_one_number_of_devices_allows_no_fit() -> None:
    with pytest.raises(RequirementError, match=r"1 device only.*at least 2; .*axes\.ranks"):
        refuse_unfit_steps([ONE])
    with pytest.raises(RequirementError, match="no number of devices"):
        refuse_unfit_steps([])
    refuse_unfit_steps([ONE, StepPoint("two", "weak", 2, 1, 2000, 0.6, 4.0)])


def test_nothing_is_predicted_beyond_four_times_the_largest_number() -> None:
    refuse_far_prediction(1024, 256)
    with pytest.raises(RequirementError, match=r"1,025 devices .* 256; .* at least 257"):
        refuse_far_prediction(1025, 256)
