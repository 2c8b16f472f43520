"""What all `pipeline benchmark` commands share: whole processes measured in turn, medians, a table,
a JSON file.

Machines are noisy: every round measures everything once, so that what is compared was measured side
by side.
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
from pipeline.work.executor import core_count

LEAST_WIDTH = 110
"""Columns of a table: a narrower terminal breaks lines rather than figures."""


@dataclass(frozen=True)
class Process:
    """A finished process, as the operating system accounts for it."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Largest resident size of the process itself."""
    output: str

    @property
    def result(self) -> dict[str, Any]:
        """The last line it printed, which is JSON."""
        return json.loads(self.output.splitlines()[-1])


def run_process(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Process:
    """Run a command to its end. Raises UserError with the end of its output if it fails."""
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
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(
            f"{' '.join(command)}\nended with exit code {process.returncode}:\n{output[-3000:]}"
        )
    return Process(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def run_python(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Process:
    """Run `python -m module arguments` with this interpreter."""
    return run_process([sys.executable, "-m", module, *arguments], environment)


def rounds(
    count: int, parts: Mapping[str, Callable[[], Mapping[str, float]]]
) -> dict[str, dict[str, float]]:
    """Measure every part once per round, and return each part's medians."""
    seen: dict[str, list[Mapping[str, float]]] = {name: [] for name in parts}
    for number in range(1, count + 1):
        for name, part in parts.items():
            note(f"benchmark: round {number} of {count}, {name}")
            seen[name].append(part())
    return {
        name: {key: statistics.median(values[key] for values in found) for key in found[0]}
        for name, found in seen.items()
    }


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under their columns, numbers to the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_wide(table, LEAST_WIDTH)
    console.print()


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write what was measured, with versions and commit, as JSON."""
    write_json(path, {**results, "environment": environment(), "cores": core_count()})
    note(f"benchmark: wrote {path}")
