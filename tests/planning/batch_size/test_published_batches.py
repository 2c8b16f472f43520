"""Goyal's errors relative to that of their reference batch."""

import pytest

from pipeline.planning.batch_size.published_batches import (
    GOYAL_WARMED_UP,
    GOYAL_WITHOUT_WARM_UP,
    batch_ratio,
    increase_percent,
)


def test_errors_and_batches_relative_to_the_reference() -> None:
    assert [batch_ratio(error) for error in GOYAL_WARMED_UP] == [1, 32, 64, 128, 256]
    increases = [increase_percent(error) for error in GOYAL_WARMED_UP]
    assert increases == pytest.approx([0, 0.593, 5.042, 16.737, 43.898], abs=1e-3)
    assert increase_percent(GOYAL_WITHOUT_WARM_UP) == pytest.approx(5.254, abs=1e-3)
