"""Step times and bytes on the wire, by hand."""

import pytest

from pipeline.planning.step_time import ring_bandwidth, ring_bytes, step_time


def test_bytes_of_a_ring() -> None:
    """1.3e9 parameters of two bytes on 8 devices: 7/8 of 2 or 3 times 2.6e9 bytes."""
    for zero_stage in (0, 1, 2):
        assert ring_bytes(1_300_000_000, 2, zero_stage, 8) == pytest.approx(4.55e9)
    assert ring_bytes(1_300_000_000, 2, 3, 8) == pytest.approx(6.825e9)
    assert ring_bytes(1_300_000_000, 2, 1, 1) == 0


def test_accumulation_sends_more_only_from_stage_2_on() -> None:
    sent = [ring_bytes(8, 1, zero_stage, 8, accumulation=4) for zero_stage in range(4)]
    assert sent == [14, 14, 35, 84]  # 7 bytes a pass: 2, 2, 4 + 1 and 3 x 4 passes


def test_the_linear_term_is_amdahls_law() -> None:
    """100 s of computing, 1 % of it for each further device, 64 devices: 1 / 1.63."""
    step = step_time(100, 0, 1, overlap=1, seconds_per_device=1.0, devices=64)
    assert step.efficiency == pytest.approx(0.6135, abs=5e-5)
    assert (step.compute, step.communication, step.per_device) == (100, 0, 63)


def test_only_communication_that_computing_does_not_hide_counts() -> None:
    """30 bytes at 1 byte/s while 0.5 x 40 s of computing hide 20 of them."""
    step = step_time(40, 30, 1, overlap=0.5, seconds_per_device=0, devices=2)
    assert step.total == 50
    assert step_time(40, 20, 1, overlap=0.5, seconds_per_device=0, devices=2).total == 40


def test_a_step_is_no_shorter_than_what_the_host_needs() -> None:
    """Of 40 s of the host 30 are computing; half of both hide 20 of 25 s of communication."""
    step = step_time(30, 25, 1, 0.5, 0, 2, host_seconds=40)
    assert (step.compute, step.host, step.communication) == (30, 10, 5)
    assert step.total == 45
    assert step.efficiency == pytest.approx(30 / 45)
    assert step_time(30, 0, 1, 0.5, 0, 2, host_seconds=20).host == 0


def test_rings_share_the_network_of_a_node() -> None:
    assert ring_bandwidth(450, 50, 8, nodes=1) == 450
    assert ring_bandwidth(450, 50, 8, nodes=2) == 400
    assert ring_bandwidth(300, 50, 8, nodes=2) == 300
