"""`pipeline benchmark start`: what the way from `pipeline train` to the first step costs, part by part.

Trains a tiny model on two CPU ranks in a scratch folder, which it removes. Ranks are forked, and in
turn started by DeepSpeed's launcher; each round is a command of its own in a new run folder, after one
that fills the caches. In each round a rank is then killed, and the next start measured as well.
Writes JSON. What was measured is also printed and written when a signal or a fault stops it.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.benchmarks.common import shown_in_any_case, write_results
from pipeline.benchmarks.small_run import make_small_data
from pipeline.benchmarks.starting.measured_start import MeasuredStart, measure_start
from pipeline.benchmarks.starting.start_results import (
    FORKED,
    SEPARATE,
    show_start_results,
    summarise_starts,
)
from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.warm.forkable_ranks import DEEPSPEED, LAUNCHER_VARIABLE
from pipeline.errors import ConfigError
from pipeline.logs import note

SIDES: Mapping[str, Mapping[str, str]] = {
    FORKED: {},
    SEPARATE: {LAUNCHER_VARIABLE: DEEPSPEED},
}
"""Way of starting ranks -> the variables that choose it."""


def benchmark_start(count: int, output: Path) -> None:
    """Measure `count` rounds, print tables and write JSON.

    Raises ConfigError on a machine with GPUs, on which the ranks would run; Interrupted after a
    signal.
    """
    # Ranks would run on GPUs.
    gpus = gpu_count()
    if gpus:
        raise ConfigError(
            [
                f"this machine has {gpus} GPUs, and CPU ranks are measured: hide them with "
                "CUDA_VISIBLE_DEVICES="
            ]
        )

    # Measure; the folder of a round is named after its number and its side.
    rounds: dict[str, list[MeasuredStart]] = {side: [] for side in SIDES}

    def show() -> None:
        results = summarise_starts(rounds)
        show_start_results(results)
        write_results(output, results)

    folder = tempfile.TemporaryDirectory(prefix="pipeline-benchmark-")
    with shown_in_any_case(show), folder as scratch:
        note("benchmark: preparing the data")
        run_file = make_small_data(Path(scratch))
        note("benchmark: one start that fills the caches")
        measure_start(run_file, Path(scratch, "first"), {})
        for number in range(1, count + 1):
            for side, variables in SIDES.items():
                note(f"benchmark: round {number} of {count}, {side}")
                run_dir = Path(scratch, f"round{number}-{len(variables)}")
                rounds[side].append(measure_start(run_file, run_dir, variables))
