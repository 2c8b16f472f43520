"""Which runs tell something about a planned one, and about each other."""

from collections.abc import Sequence

from pipeline.config.hardware import CPU, Hardware, hardware_of_device
from pipeline.engine.memory import MemorySetting
from pipeline.errors import ConfigError
from pipeline.planning.run_figures import RunFigures

MOST_TIMES_LARGER = 4.0
"""The planned model has at most as many times the run's parameters, and at least one fourth."""


def refuse_other_runs(
    runs: Sequence[RunFigures],
    hardware_name: str,
    hardware: Hardware,
    setting: MemorySetting,
    parameters: int,
) -> None:
    """Raise ConfigError where a run tells nothing about the planned one.

    Causes: another device, another number format, states in host memory in one of both, a model
    more than four times as large or as small; runs on several numbers of devices that differ in
    more than that. `hardware_name`: as the user wrote it. `setting`: that of the planned run.
    """
    problems: list[str] = []
    for run in runs:
        where = f"--from {run.path}"
        # The device and what it computes.
        if not hardware.describes(run.device):
            problems.append(
                f"{where}: ran on {run.device}, and the plan is for {hardware_name} "
                f"({_devices_of(hardware)}); {_remedy_for(run.device)}, or plan without this run"
            )
        if run.setting.dtype != setting.dtype:
            problems.append(
                f"{where}: computed in {run.setting.dtype}, and the plan is for "
                f"precision.dtype = {setting.dtype}; rates of one do not hold for the other"
            )
        if run.setting.offloads != setting.offloads:
            problems.append(
                f"{where}: has {_offloaded(run.setting)} in host memory, and the planned run "
                f"{_offloaded(setting)}; rates of one do not hold for the other, so plan from a run "
                "with a similar template (`deepspeed`)"
            )
        # The size of the model.
        ratio = parameters / run.facts.parameters
        if not 1 / MOST_TIMES_LARGER <= ratio <= MOST_TIMES_LARGER:
            problems.append(
                f"{where}: has {run.facts.parameters:,} parameters and the planned model "
                f"{parameters:,}, {ratio:.2g} times as many; rates hold for 1/4 to 4 times, so "
                "plan from a run of a similar size"
            )
    # Runs beside each other.
    problems += _differences(runs)
    if problems:
        raise ConfigError(problems)


def _offloaded(setting: MemorySetting) -> str:
    """Return the states that are moved from and to the host, for people."""
    states: list[str] = []
    if setting.offloads_optimizer:
        states.append("optimizer states")
    if setting.offloads_parameters:
        states.append("parameters")
    return " and ".join(states) or "no states"


def _devices_of(hardware: Hardware) -> str:
    """Return the devices that a hardware file describes, for people."""
    if hardware.is_cpu:
        return "CPUs"
    return f"devices whose names have {' or '.join(hardware.device_names)}"


def _remedy_for(device: str) -> str:
    """Return the hardware to plan for instead."""
    if device == CPU:
        return "plan for cpu, or for a file with device_names: []"
    shipped = hardware_of_device(device)
    if shipped is not None:
        return f"plan for {shipped}"
    return "plan for a hardware file that has this name, or a part of it, in device_names"


def _differences(runs: Sequence[RunFigures]) -> list[str]:
    """Return why runs on several numbers of devices do not tell what each further device costs.

    They must differ in the number of devices only: otherwise a difference in the time of a step has
    other causes, too.
    """
    first = runs[0]
    if all(run.setting.ranks == first.setting.ranks for run in runs):
        return []
    expected = _compared_settings(first)
    problems: list[str] = []
    for run in runs[1:]:
        differing = [
            f"{name} = {value}, not {expected[name]}"
            for name, value in _compared_settings(run).items()
            if value != expected[name]
        ]
        if differing:
            problems.append(
                f"--from {run.path}: differs from {first.path} in {', '.join(differing)}; runs on "
                "several numbers of devices must differ in that number only, so give such runs, or "
                "one run"
            )
    return problems


def _compared_settings(run: RunFigures) -> dict[str, object]:
    """Return what else the time of a step depends on, by the names that users know."""
    setting = run.setting
    return {
        "parameters": f"{run.facts.parameters:,}",
        "layers": run.facts.size.layers,
        "data.sequence_length": setting.sequence_length,
        "batch.micro_batch_sequences": setting.micro_batch_sequences,
        "train.activation_checkpointing": str(setting.activation_checkpointing).lower(),
        "the ZeRO stage": setting.zero_stage,
    }
