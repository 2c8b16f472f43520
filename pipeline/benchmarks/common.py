"""Shared parts of all `pipeline benchmark` commands: timed processes, medians, tables, JSON.

Machines are noisy: every round measures each part once, so that compared figures were measured at
about the same time. Writes the file of results.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.logs import console, note, print_wide
from pipeline.store.environment import environment
from pipeline.store.files import write_json
from pipeline.work.cores import core_count

LEAST_WIDTH = 110
"""Columns that a table has at least: a narrower terminal wraps whole lines, not figures."""


Figures = Mapping[str, float]
"""Name of a figure, with its unit -> value."""
Measurement = Callable[[], Figures]
"""Function that measures one part of a benchmark."""


@dataclass(frozen=True)
class FinishedProcess:
    """Time, memory and output of a finished process."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Largest resident set of the process itself, without its children."""
    output: str
    """All that the process printed."""

    @property
    def result(self) -> dict[str, Any]:
        """Last line of the output, parsed as JSON."""
        return json.loads(self.output.splitlines()[-1])


def run_process(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> FinishedProcess:
    """Run a command to its end; `environment` adds to this process's own.

    Raises UserError, with the end of the output, where the command fails.
    """
    # Run it without the setting that would have it compile every module again.
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=inherited | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output = process.stdout.read()

    # wait4 gives the CPU time and memory of this one process.
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(
            f"{' '.join(command)}\nended with exit code {process.returncode}:\n{output[-3000:]}"
        )
    return FinishedProcess(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def run_python(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> FinishedProcess:
    """Run `python -m module arguments` with this interpreter."""
    return run_process([sys.executable, "-m", module, *arguments], environment)


def measure_in_rounds(count: int, parts: Mapping[str, Measurement]) -> dict[str, dict[str, float]]:
    """Measure every part once in each of `count` rounds, and return the medians of each part."""
    measured: dict[str, list[Figures]] = {name: [] for name in parts}
    for number in range(1, count + 1):
        for name, measure in parts.items():
            note(f"benchmark: round {number} of {count}, {name}")
            measured[name].append(measure())
    return {
        name: {key: statistics.median(figures[key] for figures in of_part) for key in of_part[0]}
        for name, of_part in measured.items()
    }


def met_or_missed(is_met: bool) -> str:
    """Return the word for a limit that is met, or is not."""
    if is_met:
        return "met"
    return "MISSED"


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is aligned to the left, the others to the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_wide(table, LEAST_WIDTH)
    console.print()


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write the results as JSON, with library versions, commit and number of cores."""
    write_json(path, {**results, "environment": environment(), "cores": core_count()})
    note(f"benchmark: wrote {path}")
