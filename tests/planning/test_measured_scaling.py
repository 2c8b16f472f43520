"""What a plan takes from a throughput study, by hand."""

from pathlib import Path

import pytest
from plans import HARDWARE
from test_plan import rates

from pipeline.errors import RequirementError
from pipeline.planning.measured_scaling import (
    hardware_with_rates,
    runs_and_studies,
    with_measured_scaling,
)
from pipeline.planning.throughput.scaling_fit import FittedScaling, ScalingLaw
from pipeline.planning.throughput.step_points import StepPoint
from pipeline.planning.throughput.throughput_file import MeasuredScaling, write_throughput

LAW = ScalingLaw(0.5, 4096, 2e9, 8e9, 0.4, 0.01)
STUDY = MeasuredScaling(Path("/s/throughput.json"), LAW, True, 8, Path("/s/runs/one/run"))


def test_link_rates_and_the_linear_term_come_from_the_study() -> None:
    """0.01 of 0.5 s a further device; a node of 4 devices sends 8 GB/s, 2 of them for each."""
    found = with_measured_scaling(rates(), STUDY, HARDWARE, 32)
    assert found.per_device_share.value == pytest.approx(0.02)
    assert found.link_gb_per_second.value == pytest.approx(2)
    assert found.network_gb_per_second.value == pytest.approx(2)
    assert found.per_device_share.kind == "calibrated"
    hardware = hardware_with_rates(HARDWARE, found)
    assert (hardware.link_gb_per_second, hardware.network_gb_per_second) == (2, 2)


def test_what_a_study_does_not_tell_stays_assumed() -> None:
    law = ScalingLaw(0.5, 4096, None, None, 0.0, 0.01)
    study = MeasuredScaling(STUDY.path, law, False, 8, STUDY.reference_run)
    before = rates()
    found = with_measured_scaling(before, study, HARDWARE, 32)
    assert found.link_gb_per_second == before.link_gb_per_second
    assert found.network_gb_per_second == before.network_gb_per_second
    assert found.overlap == before.overlap


def test_more_than_four_times_its_devices_are_refused() -> None:
    with pytest.raises(RequirementError, match="33 devices"):
        with_measured_scaling(rates(), STUDY, HARDWARE, 33)


def test_a_study_stands_for_its_run_on_the_fewest_devices(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    point = StepPoint("two", "weak", 2, 1, 2000, 0.6, 4.0)
    write_throughput(study / "throughput.json", FittedScaling(LAW, [], [point], 0.02, True), "one")
    run_dirs, studies = runs_and_studies([tmp_path / "run", study])
    assert run_dirs == [tmp_path / "run", study / "one"]
    assert [each.law for each in studies] == [LAW]
