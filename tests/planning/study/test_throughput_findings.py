"""What a throughput study's runs say, by hand."""

from dataclasses import replace

import pytest

from pipeline.planning.step_time import ring_bytes
from pipeline.planning.study.measured_steps import MeasuredRun, exposed_share
from pipeline.planning.study.throughput_figures import throughput_figures
from pipeline.planning.study.throughput_findings import throughput_findings, wire_plan
from pipeline.planning.throughput.scaling_fit import ScalingLaw
from pipeline.planning.throughput.step_points import Scaling, StepPoint
from pipeline.store.events import CommunicationEvent

LAW = ScalingLaw(0.5, 1000, 4e8, None, 0.0, 0.01)


def event(ranks: int, cores: int = 8) -> CommunicationEvent:
    return {
        "time": "",
        "unix_time": 0.0,
        "event": "communication",
        "ranks": ranks,
        "nodes": 1,
        "cores": cores,
        "backend": "gloo",
        "network": "Ethernet eth0 10 Gbit/s",
        "seconds_with": [2.0, 4.0, 9.0],
        "seconds_without": [2.0, 3.0, 5.0],
        "bytes_per_second": 1e9,
    }


def run(
    devices: int, scaling: Scaling, variant: str = "", speed: float = 1.0, cores: int = 8
) -> MeasuredRun:
    """Return a run as LAW has it, `speed` times as fast."""
    tokens = 1000 if scaling == "strong" else 1000 * devices
    wire = ring_bytes(1_000_000, 4, 1, devices)
    name = f"{scaling}-{devices}-{variant}"
    point = StepPoint(name, scaling, devices, 1, tokens, 1.0, wire)
    step = LAW.step_of(point)
    share = step.communication / step.total if devices > 1 else None
    point = replace(point, seconds=step.total / speed, exposed_share=share)
    measured = event(devices, cores) if devices > 1 else None
    return MeasuredRun(point, variant, "CPU", False, measured)


RUNS = [
    run(1, "reference"),
    run(2, "weak"),
    run(4, "weak"),
    run(4, "strong"),
    run(4, "weak", "small-buckets", speed=0.8),
    run(4, "weak", "no-overlap", speed=1.25),
]


def test_the_share_of_communication_is_that_of_the_medians() -> None:
    """A median of 4 s with reduction and of 3 s without it."""
    assert exposed_share(event(2)) == pytest.approx(0.25)
    assert exposed_share(None) is None
    assert exposed_share({**event(2), "seconds_without": []}) is None
    assert exposed_share({**event(2), "seconds_without": [5.0]}) == 0.0


def test_weak_scaling_is_fitted_and_predicted_up_to_four_times() -> None:
    found = throughput_findings(RUNS, {}, (8, 16, 17), resamples=20)
    assert found.fitted is not None
    assert found.fitted.law.link == pytest.approx(4e8)
    assert {point.name for point in found.fitted.points} == {"reference-1-", "weak-2-", "weak-4-"}
    assert [each.devices for each in found.predictions] == [8, 16]
    # 0.5 s + 2 x 4e6 x 15 / 16 bytes at 4e8 bytes/s + 15 x 0.01 s
    assert found.predictions[1].seconds.value == pytest.approx(0.5 + 0.01875 + 0.15)
    assert found.predictions[1].efficiency.value == pytest.approx(0.5 / 0.66875)
    (refusal,) = found.refusals
    assert refusal.startswith("17 devices are 4.25 times the largest measured number, 4")


def test_strong_scaling_alone_is_fitted_by_its_own_work() -> None:
    found = throughput_findings([run(1, "reference"), run(4, "strong")], {}, (), resamples=0)
    assert found.fitted is not None
    assert found.fitted.law.compute_seconds == pytest.approx(0.5)
    # 16 devices have a sixteenth of 0.5 s, and add 15 x 0.01 s.
    far = found.predictions[-1]
    assert far.devices == 16
    assert far.seconds.value == pytest.approx(0.5 / 16 + 0.01875 + 0.15)


def test_runs_on_one_number_of_devices_leave_a_reason_and_their_points() -> None:
    found = throughput_findings([run(2, "reference")], {}, ())
    assert found.fitted is None
    assert "2 devices only" in found.refusals[0]
    assert [table.name for table in throughput_figures(found.points, None, None)] == [
        "throughput",
        "efficiency",
        "communication",
    ]
    assert throughput_findings([], {"a": "too few"}, ()).points == []


def test_variants_stand_beside_the_same_run_without_them() -> None:
    found = throughput_findings(RUNS, {}, (), resamples=0)
    assert [rate.variant for rate in found.variants] == ["no-overlap", "", "small-buckets"]
    assert all(rate.devices == 4 for rate in found.variants)
    assert throughput_findings(RUNS[:4], {}, (), resamples=0).variants == []


def test_more_ranks_than_cores_are_noticed() -> None:
    assert throughput_findings(RUNS, {}, (), resamples=0).overloaded is None
    crowded = [run(1, "reference"), run(2, "weak", cores=2), run(4, "weak", cores=2)]
    assert throughput_findings(crowded, {}, (), resamples=0).overloaded == 4
    on_gpus = [replace(each, device="NVIDIA H100") for each in crowded]
    assert throughput_findings(on_gpus, {}, (), resamples=0).overloaded is None


def test_ranks_that_take_turns_are_no_part_of_the_fit() -> None:
    """Four ranks on two cores take ten times as long; the law is that of the other two points."""
    alone = [run(1, "reference"), run(2, "weak", cores=2)]
    slow = run(4, "weak", cores=2)
    slow = replace(slow, point=replace(slow.point, seconds=10 * slow.point.seconds))
    found = throughput_findings([*alone, slow], {}, (), resamples=0)
    without = throughput_findings(alone, {}, (), resamples=0)
    assert found.fitted is not None
    assert without.fitted is not None
    assert found.fitted.law == without.fitted.law
    assert found.fitted.largest == 2
    assert len(found.points) == 3
    # With one core there is nothing to fit.
    on_one = [run(1, "reference"), run(2, "weak", cores=1), run(4, "weak", cores=1)]
    found = throughput_findings(on_one, {}, (), resamples=0)
    assert found.fitted is None
    assert "1 device only" in found.refusals[0]


def test_a_ring_sends_more_on_more_devices_and_takes_more_nodes() -> None:
    """3/4 of all bytes on 4 devices, 15/16 on 16; 4 devices a node where there are several."""
    plan = wire_plan([RUNS[2].point])
    assert plan.wire_bytes(16) == pytest.approx(RUNS[2].point.wire_bytes * 15 / 12)
    assert plan.nodes(16) == 1
    several = [replace(RUNS[1].point, devices=8, nodes=2), RUNS[2].point]
    assert wire_plan(several).nodes(17) == 5


def test_figures_hold_the_ideal_the_runs_the_fit_and_published_points() -> None:
    found = throughput_findings(RUNS, {}, (), resamples=20)
    throughput, efficiency, communication = throughput_figures(
        found.points, found.fitted, found.plan
    )
    ideal = throughput.points_of("ideal")
    assert (ideal[0].x, ideal[-1].x) == (1, 16)
    assert ideal[-1].y == pytest.approx(16 * 2000)
    assert len(throughput.series_of("run")) == 2
    assert throughput.points_of("beyond")[-1].x == 16
    # MPT-1B on 512 H100, 4 times its fewest: laid on 4 devices.
    published = [
        point
        for point in efficiency.points_of("published")
        if point.series == "MPT-1B, H100, micro-batch 12"
    ]
    assert [(point.x, round(point.y, 1)) for point in published] == [
        (1, 100.0),
        (2, 96.4),
        (4, 90.3),
    ]
    # A step of 0.5 s + 15 ms + 30 ms on 4 devices.
    assert communication.points_of("fit")[-1].y == pytest.approx(100 * 0.015 / 0.545)
