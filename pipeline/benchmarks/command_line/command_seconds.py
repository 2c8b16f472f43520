"""`pipeline benchmark commands`: CPU seconds of commands that a user waits for with empty hands.

Each measurement is user and system time of a fresh process with warm caches; all commands take
turns in every round, so that ratios compare the same minutes. The number of modules that a command
imports is the same on every machine. Reads the finished run that `../small_run.py` makes in a
temporary folder; writes JSON.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pipeline.benchmarks.common import (
    met_or_missed,
    run_process,
    show_table,
    shown_in_any_case,
    write_results,
)
from pipeline.benchmarks.small_run import SmallRun, make_small_run
from pipeline.config.run_file import load
from pipeline.logs import note
from pipeline.sampling.trace import trace_step
from pipeline.sampling.traced_run import open_run, read_run
from pipeline.store.layout import REPORT_MANIFEST

BARE = "python -c pass"
TYPER = "python -c 'import typer'"
HELP = "--help"
REPORT = "report RUN"
MISTYPED = (
    "import sys; from pipeline.__main__ import main; sys.argv = ['pipeline', 'statsu']\n"
    "try: main()\nexcept SystemExit as end: assert end.code == 2"
)
"""Python code that types a command wrongly, and ends with 0 as the others do."""
MOST_TYPERS = 1.5
"""CPU time of `--help` at most, as a multiple of importing typer."""
MOST_SECONDS = 1.5
"""CPU seconds of any other command at most."""


@dataclass(frozen=True)
class MeasuredCommand:
    """A command line of python, and what has to happen before each start of it."""

    arguments: tuple[str, ...]
    prepare: Callable[[], None] = lambda: None


class CommandSeconds(TypedDict):
    """CPU time of one command."""

    median: float
    least: float
    most: float
    typers: float
    """Median as a multiple of that of importing typer."""
    modules: int
    """Modules that the process imports, without those with which every Python starts."""


class CheckedMaximum(TypedDict):
    """A measured figure and its upper limit."""

    measured: float
    at_most: float
    met: bool


class CommandResults(TypedDict):
    """What the JSON file holds."""

    rounds: int
    """Rounds that were finished."""
    cpu_seconds: dict[str, CommandSeconds]
    limits: dict[str, CheckedMaximum]


def benchmark_commands(rounds: int, output: Path) -> None:
    """Measure all commands in turn, print tables and write JSON, also after Ctrl-C.

    Raises UserError where a command fails, Interrupted after a signal.
    """
    modules: dict[str, int] = {}
    measured: dict[str, list[float]] = {}

    def show() -> None:
        finished = len(measured.get(BARE, []))
        if finished == 0:
            note("benchmark: stopped before the first round was finished")
            return
        seconds = summarised(measured, modules)
        results: CommandResults = {
            "rounds": finished,
            "cpu_seconds": seconds,
            "limits": checked_maxima(seconds),
        }
        show_command_seconds(results)
        write_results(output, results)

    folder = tempfile.TemporaryDirectory(prefix="pipeline-benchmark-")
    with shown_in_any_case(show), folder as scratch:
        commands = commands_of_run(make_small_run(Path(scratch)))
        of_python = imported_modules(("-c", "pass"))
        for name, command in commands.items():
            modules[name] = count_modules(command, of_python)
        measure_in_turns(rounds, commands, measured)


def commands_of_run(small: SmallRun) -> dict[str, MeasuredCommand]:
    """Return the commands by the names that the tables show.

    Not among them are `doctor`, which measures the machine for seconds, and `generate`: torch.
    """
    # What commands ask for.
    config = load(small.run_file)
    traced = trace_step(read_run(open_run(small.run_file, [])), 1)
    document = traced["rows"][0]["documents"][0]["id"]
    source = next(iter(config.sources))
    report = config.paths.run_dir / REPORT_MANIFEST

    def pipeline(*words: str) -> MeasuredCommand:
        return MeasuredCommand(("-m", "pipeline", *words))

    # The commands.
    run = str(small.run_file)
    curated = str(small.curated_file)
    return {
        BARE: MeasuredCommand(("-c", "pass")),
        TYPER: MeasuredCommand(("-c", "import typer")),
        HELP: pipeline("--help"),
        "a mistyped command": MeasuredCommand(("-c", MISTYPED)),
        "report --help": pipeline("report", "--help"),
        "presets": pipeline("presets"),
        "config RUN": pipeline("config", run),
        "config --describe": pipeline("config", "--describe"),
        "status RUN": pipeline("status", run),
        "plan RUN": pipeline("plan", run),
        REPORT: MeasuredCommand(("-m", "pipeline", "report", run), report.unlink),
        "report RUN, done already": pipeline("report", run),
        "trace RUN --step": pipeline("trace", run, "--step", "1"),
        "trace RUN --document": pipeline("trace", run, "--document", document),
        "inspect RUN": pipeline("inspect", run),
        "inspect RUN --document": pipeline("inspect", run, "--source", source, "--document", "0"),
        "inspect RUN --tokenizer": pipeline("inspect", run, "--tokenizer"),
        "explain RUN --document": pipeline("explain", curated, "--document", document),
        "compare RUN RUN": pipeline("compare", run, run),
        "checkpoints list RUN": pipeline("checkpoints", "list", run),
        "tasks list": pipeline("tasks", "list", str(small.run_file.parent)),
        "study status STUDY": pipeline("study", "status", str(small.study_file)),
    }


def count_modules(command: MeasuredCommand, of_python: Set[str]) -> int:
    """Return how many modules a command imports, each counted once, but for those `of_python`.

    Raises UserError where the command fails.
    """
    command.prepare()
    return len(imported_modules(command.arguments) - of_python)


def imported_modules(arguments: Sequence[str]) -> set[str]:
    """Return the modules that a process of Python imports. Raises UserError where it fails."""
    process = run_process([sys.executable, "-X", "importtime", *arguments])
    # Lines of `-X importtime` are: time, time with others, name.
    lines = process.output.splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def measure_in_turns(
    rounds: int, commands: Mapping[str, MeasuredCommand], measured: dict[str, list[float]]
) -> None:
    """Add the CPU seconds of each command to `measured`, after each round that is finished."""
    # A first start, which is not counted, compiles modules and fills the caches.
    for number in range(rounds + 1):
        note(f"benchmark: round {number} of {rounds}")
        this_round: dict[str, float] = {}
        for name, command in commands.items():
            command.prepare()
            this_round[name] = run_process([sys.executable, *command.arguments]).cpu_seconds
        if number:
            for name, seconds in this_round.items():
                measured.setdefault(name, []).append(seconds)


def summarised(
    measured: Mapping[str, Sequence[float]], modules: Mapping[str, int]
) -> dict[str, CommandSeconds]:
    """Return median, range, ratio and number of modules of each command."""
    typer = statistics.median(measured[TYPER])
    return {
        name: {
            "median": statistics.median(seconds),
            "least": min(seconds),
            "most": max(seconds),
            "typers": statistics.median(seconds) / typer,
            "modules": modules[name],
        }
        for name, seconds in measured.items()
    }


def checked_maxima(seconds: Mapping[str, CommandSeconds]) -> dict[str, CheckedMaximum]:
    """Compare the figures with their limits."""
    checked: dict[str, CheckedMaximum] = {}
    for name, figures in seconds.items():
        if name == HELP:
            typers = figures["typers"]
            checked[f"{name}, of importing typer"] = {
                "measured": typers,
                "at_most": MOST_TYPERS,
                "met": typers <= MOST_TYPERS,
            }
        elif name not in (BARE, TYPER):
            median = figures["median"]
            checked[f"{name}, seconds"] = {
                "measured": median,
                "at_most": MOST_SECONDS,
                "met": median <= MOST_SECONDS,
            }
    return checked


def show_command_seconds(results: CommandResults) -> None:
    """Print the figures and the limits as tables."""
    rows = [
        (
            name,
            f"{figures['median']:.3f}",
            f"{figures['least']:.3f}",
            f"{figures['most']:.3f}",
            f"{figures['typers']:.2f}",
            f"{figures['modules']}",
        )
        for name, figures in results["cpu_seconds"].items()
    ]
    show_table(
        f"CPU seconds of fresh processes, {results['rounds']} rounds",
        ("", "median", "least", "most", "of importing typer", "modules"),
        rows,
    )
    limits = [
        (name, f"{limit['measured']:.2f}", f"{limit['at_most']}", met_or_missed(limit["met"]))
        for name, limit in results["limits"].items()
    ]
    show_table("Limits", ("", "measured", "at most", ""), limits)
