"""What all `pipeline benchmark` commands share: timed processes, medians, tables, JSON.

Machines are noisy: every round measures each part once, so that compared figures were measured at
about the same time. Writes the file of results.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import Interrupted, UserError
from pipeline.logs import console, note, print_wide
from pipeline.store.environment import environment
from pipeline.store.files import write_json
from pipeline.work.cores import core_count

SHOWN_CHARACTERS = 3000
"""Length of the end of a failed process's output that is shown."""
LEAST_WIDTH = 110
"""Minimum width of a table, in columns: a narrower terminal wraps whole lines, not figures."""
Figures = Mapping[str, float]
"""Name of a figure, with its unit -> value."""
Medians = dict[str, dict[str, float]]
"""Part of a benchmark -> name of a figure, with its unit -> median over the rounds."""
Measurement = Callable[[], Figures]
"""Function that measures one part of a benchmark."""


@dataclass(frozen=True)
class FinishedProcess:
    """Time, memory and output of a finished process."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Maximum resident memory of the process itself, without its children."""
    output: str
    """Everything that the process printed."""

    @property
    def measured(self) -> Any:
        """JSON value in the last line of the output; the caller declares its type."""
        return json.loads(self.output.splitlines()[-1])


def environment_of_process(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process with `variables`, for a process that is measured."""
    # With PYTHONDONTWRITEBYTECODE the process would compile every module again.
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    return inherited | dict(variables)


def process_failed(what: str, code: int, output: str) -> UserError:
    """Return the error of a measured process that failed, with the end of its output."""
    return UserError(f"{what}\nended with exit code {code}:\n{output[-SHOWN_CHARACTERS:]}")


def run_process(
    command: Sequence[str], variables: Mapping[str, str] | None = None
) -> FinishedProcess:
    """Run a command to its end; `variables` are added to the environment of this process.

    Raises UserError, with the end of the output, where the command fails.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=environment_of_process(variables or {}),
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
        raise process_failed(" ".join(command), process.returncode, output)
    return FinishedProcess(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def run_python(
    module: str, *arguments: str, variables: Mapping[str, str] | None = None
) -> FinishedProcess:
    """Run `python -m module arguments` with this interpreter, as `run_process` does."""
    return run_process([sys.executable, "-m", module, *arguments], variables)


def measure_in_rounds(count: int, parts: Mapping[str, Measurement]) -> Medians:
    """Measure every part once in each of `count` rounds; return the medians of each part."""
    measured: dict[str, list[Figures]] = {name: [] for name in parts}
    for number in range(1, count + 1):
        for name, measure in parts.items():
            note(f"benchmark: round {number} of {count}, {name}")
            measured[name].append(measure())
    return {
        name: {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}
        for name, rounds in measured.items()
    }


@contextmanager
def shown_in_any_case(show: Callable[[], None]) -> Generator[None]:
    """Call `show` at the end of the block, also where it is interrupted or a measurement fails.

    Raises Interrupted in place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        message = "benchmark: stopped; only what was measured until then is shown"
        raise Interrupted(message) from None
    finally:
        show()


def met_or_missed(is_met: bool) -> str:
    """Return the word for a limit that is met, or is not."""
    if is_met:
        return "met"
    return "MISSED"


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is aligned to the left, the others to the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_wide(table, LEAST_WIDTH)
    console.print()


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write the results as JSON, with library versions, commit and number of cores."""
    write_json(path, {**results, "environment": environment(), "cores": core_count()})
    note(f"benchmark: wrote {path}")
