"""Published weak scaling: every series starts at 1, and has a source."""

import pytest

from pipeline.planning.throughput.published_scaling import published_scaling


def test_efficiency_counts_from_the_fewest_devices() -> None:
    """MPT-1B on 512 H100: 39,837 / 44,123 of the rate on 128."""
    series = {each.name: each for each in published_scaling()}
    efficiencies = series["MPT-1B, H100, micro-batch 12"].efficiencies()
    assert efficiencies[0] == (1, 1)
    assert efficiencies[2] == pytest.approx((4, 0.9029), abs=1e-4)


def test_every_series_has_several_numbers_of_devices_and_a_source() -> None:
    for series in published_scaling():
        devices = [rate.devices for rate in series.rates]
        assert len(devices) >= 2
        assert devices == sorted(set(devices))
        assert "@" in series.source
