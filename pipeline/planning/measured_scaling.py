"""What a throughput study tells a plan: link rates, overlap, and what each further device costs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config.hardware import Hardware
from pipeline.planning.rates import PlanRates, Rate
from pipeline.planning.throughput.scaling_refusals import refuse_far_prediction
from pipeline.planning.throughput.throughput_file import (
    MeasuredScaling,
    read_throughput,
    throughput_file,
)

GIGA = 1e9


def runs_and_studies(paths: Sequence[Path]) -> tuple[list[Path], list[MeasuredScaling]]:
    """Return the run folders among the paths of `--from`, and what its throughput studies tell.

    A study adds its run on the fewest devices, which tells what does not depend on their number.
    Raises DataError for a `throughput.json` that cannot be used.
    """
    run_dirs: list[Path] = []
    studies: list[MeasuredScaling] = []
    for path in paths:
        file = throughput_file(path)
        if file is None:
            run_dirs.append(path)
            continue
        study = read_throughput(file)
        studies.append(study)
        run_dirs.append(study.reference_run)
    return run_dirs, studies


def with_measured_scaling(
    rates: PlanRates, study: MeasuredScaling, hardware: Hardware, devices: int
) -> PlanRates:
    """Return the rates with all that a study tells; what it does not tell stays assumed.

    `devices`: those of the plan. Raises RequirementError for more than four times those of the
    study.
    """
    refuse_far_prediction(devices, study.largest)
    law = study.law

    def calibrated(value: float) -> Rate:
        return Rate(value, "calibrated", str(study.path))

    if law.compute_seconds:
        share = law.per_device_seconds / law.compute_seconds
        rates = replace(rates, per_device_share=calibrated(share))
    if law.link is not None:
        rates = replace(rates, link_gb_per_second=calibrated(law.link / GIGA))
    if law.network is not None:
        # As many rings as a node has devices share its network.
        own = law.network / hardware.devices_per_node
        rates = replace(rates, network_gb_per_second=calibrated(own / GIGA))
    # A template without overlap hides nothing, whatever the study's did.
    if study.is_overlap_fitted and rates.overlap.value:
        rates = replace(rates, overlap=calibrated(law.overlap))
    return rates


def hardware_with_rates(hardware: Hardware, rates: PlanRates) -> Hardware:
    """Return the hardware with the link rates of a plan."""
    return hardware.model_copy(
        update={
            "link_gb_per_second": rates.link_gb_per_second.value,
            "network_gb_per_second": rates.network_gb_per_second.value,
        }
    )
