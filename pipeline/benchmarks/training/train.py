"""`pipeline benchmark train`: what a step costs in our loop and in what others would use.

Needs no corpus: writes random tokens to a scratch folder and removes them. Each side is measured in
a process of its own (`measure_train`), in turns with the others. On GPUs it measures model FLOPs
utilisation instead, and compares it with the GPU's rate in one large matrix product. Writes JSON.
What was measured on CPUs is also printed and written when a signal or a fault stops the benchmark.
"""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.benchmarks.common import shown_in_any_case, write_results
from pipeline.benchmarks.training.gpu_rates import gpu_models, measure_on_gpu
from pipeline.benchmarks.training.side_names import SIDES
from pipeline.benchmarks.training.side_results import (
    CpuFigures,
    all_limits,
    scaling_efficiencies,
    show_cpu_figures,
)
from pipeline.benchmarks.training.side_rounds import measure_on_cpu
from pipeline.benchmarks.training.sizes import SIZES, STAGES, CpuPlan, MeasuredSize
from pipeline.benchmarks.training.step_settings import settings_of_run_file
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.logs import note

GPU_PRESETS = ("gpt3-125m", "gpt3-1.3b")


@dataclass(frozen=True)
class Choice:
    """What the user wants to be measured; nothing chosen means everything."""

    templates: Sequence[str] = ()
    presets: Sequence[str] = ()
    """Only on GPUs."""
    sizes: Sequence[str] = ()
    """Only on CPUs, as are the following."""
    sides: Sequence[str] = ()
    with_parts: bool = True
    with_scaling: bool = True


def benchmark_train(
    config: RunConfig | None, choice: Choice, count: int, output: Path, gpus: int
) -> None:
    """Measure `count` rounds, print tables and write JSON.

    With `config` the run file's model is measured, else the chosen presets on GPUs and the chosen
    sizes on CPUs. Raises ConfigError for a name that there is not, Interrupted after a signal.
    """
    refuse_unknown(choice)
    if gpus:
        with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as scratch:
            models = gpu_models(config, choice.presets or GPU_PRESETS)
            measure_on_gpu(models, choice.templates or STAGES, Path(scratch), count, output)
        return
    measure_and_show(cpu_plan(config, choice), count, output)


def refuse_unknown(choice: Choice) -> None:
    """Raise ConfigError with every template, size and side that there is not."""
    problems = [
        f"{option} {name}: is none of {', '.join(names)}"
        for option, chosen, names in (
            ("--template", choice.templates, STAGES),
            ("--size", choice.sizes, tuple(SIZES)),
            ("--side", choice.sides, SIDES),
        )
        for name in chosen
        if name not in names
    ]
    if problems:
        raise ConfigError(problems)


def cpu_plan(config: RunConfig | None, choice: Choice) -> CpuPlan:
    """Return what to measure on CPUs.

    All sides train in fp32, not compiled, whatever the run file says: the peers know nothing else.
    """
    sizes = {name: SIZES[name] for name in _in_order(choice.sizes, SIZES)}
    if config is not None:
        of_file = settings_of_run_file(config)
        settings = replace(of_file, dtype="fp32", compile=False)
        if settings != of_file:
            note("benchmark: measured in fp32, and not compiled")
        sizes = {"the run file": MeasuredSize(settings)}
    plan = CpuPlan(
        sizes,
        _in_order(choice.templates, STAGES),
        _in_order(choice.sides, SIDES),
        with_parts=choice.with_parts,
    )
    if not choice.with_scaling:
        plan = replace(plan, scaling=None)
    return plan


def _in_order(chosen: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the chosen names, or all, each once and in their own order."""
    return [name for name in names if name in chosen or not chosen]


def measure_and_show(plan: CpuPlan, count: int, output: Path) -> None:
    """Measure a plan on CPUs, print tables, write JSON, also where a signal or fault ends it."""
    figures: CpuFigures = {"sides": {}, "losses": {}, "parts": {}, "scaling": {}}

    def show() -> None:
        show_cpu_figures(figures)
        results = {
            **figures,
            "limits": all_limits(figures),
            "scaling_efficiencies": scaling_efficiencies(figures["scaling"]),
        }
        write_results(output, results)

    folder = tempfile.TemporaryDirectory(prefix="pipeline-benchmark-")
    with shown_in_any_case(show), folder as scratch:
        measure_on_cpu(plan, Path(scratch), count, figures)
