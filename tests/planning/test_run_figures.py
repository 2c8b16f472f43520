"""What a plan takes from a run's steps."""

from typing import Any

import pytest

from pipeline.planning.run_figures import last_noise_scale


@pytest.mark.parametrize(("steps", "expected"), [(159, None), (160, 500.0), (1000, 500.0)])
def test_a_noise_scale_counts_from_40_measurements_on(steps: int, expected: float | None) -> None:
    """One is made every 4 steps; the last steps count."""
    records: list[Any] = [
        {"step": step, "gradient_noise_scale_tokens": 100.0 if step < steps else 500.0}
        for step in (steps - 1, steps)
    ]
    assert last_noise_scale(records) == expected
