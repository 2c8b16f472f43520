"""What `pipeline benchmark train` has measured on CPUs: ratios with intervals, limits, tables.

Prints the tables; reads and writes no file.
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict

from pipeline.benchmarks.common import Figures, met_or_missed, show_table
from pipeline.benchmarks.training.side_names import (
    ACCELERATE,
    DEEPSPEED,
    OURS,
    TRAINER,
)
from pipeline.benchmarks.training.step_parts import REST, THREADS
from pipeline.logs import human_bytes

LEAST_RATIOS = {DEEPSPEED: 0.98, ACCELERATE: 1.0, TRAINER: 1.0}
"""Side -> the lowest rate that ours should have, as a multiple of that side's."""
ONE_RANK = "1 rank"
TWO_RUNS = "2 runs at once"
"""Two runs of one rank each, which share the machine's memory and do not wait for each other."""
TWO_RANKS = "2 ranks"
LEAST_SCALING = 0.95
"""Lowest rate of two ranks that is wanted, as a fraction of twice the rate of one rank."""
ROUNDS_OF_A_PROCESS = 5
"""Rounds after which the sides get new processes.

What differs from process to process, such as where memory lies, belongs to the intervals.
"""
RESAMPLES = 2000
"""Samples of the bootstrap."""
Clock = Literal["wall_seconds", "cpu_seconds"]


class TurnFigures(TypedDict):
    """What one side's process measures in a turn."""

    wall_seconds: float
    """Mean of the steps of the turn."""
    cpu_seconds: float
    """The same in CPU seconds of all threads."""
    peak_bytes: int
    """Largest resident memory of the process until then."""


Measured = Mapping[str, Sequence[TurnFigures]]
"""Side -> its figures in each round."""


class CpuFigures(TypedDict):
    """Everything that is measured on CPUs; less where the benchmark was interrupted."""

    sides: dict[str, dict[str, dict[str, list[TurnFigures]]]]
    """Size -> template -> side -> figures of each round."""
    losses: dict[str, dict[str, dict[str, list[float]]]]
    """Size -> template -> side -> loss of the last step of each process, in nats."""
    parts: dict[str, dict[str, dict[str, Figures]]]
    """Size -> template -> side -> part of a step -> CPU seconds."""
    scaling: dict[str, list[float]]
    """ONE_RANK, TWO_RUNS, TWO_RANKS -> tokens per second in each round."""


class Estimate(NamedTuple):
    """A median over the rounds, and its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


class CheckedRatio(TypedDict):
    """Our rate as a multiple of another side's, and the lowest that is wanted."""

    cpu: Estimate
    wall: Estimate
    at_least: float
    verdict: str


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of the values of at least one round, with its interval by the bootstrap.

    Resamples processes, and rounds within them: rounds of one process are not independent. Source:
    Davison and Hinkley 1997, section 3.8; the percentile interval. The same values give the same
    interval.
    """
    generator = random.Random(0)
    processes = [
        values[first : first + ROUNDS_OF_A_PROCESS]
        for first in range(0, len(values), ROUNDS_OF_A_PROCESS)
    ]

    def resampled() -> list[float]:
        chosen = generator.choices(processes, k=len(processes))
        return [value for rounds in chosen for value in generator.choices(rounds, k=len(rounds))]

    medians = sorted(statistics.median(resampled()) for _ in range(RESAMPLES))
    low = medians[round(0.025 * (RESAMPLES - 1))]
    high = medians[round(0.975 * (RESAMPLES - 1))]
    return Estimate(statistics.median(values), low, high)


def rate_ratio(
    side: Sequence[TurnFigures], other: Sequence[TurnFigures], clock: Clock
) -> Estimate | None:
    """Return a side's rate as a multiple of another's, compared within each round.

    None where no round has measured both.
    """
    ratios = [theirs[clock] / ours[clock] for ours, theirs in zip(side, other, strict=False)]
    if not ratios:
        return None
    return estimate(ratios)


def checked_ratios(sides: Measured) -> dict[str, CheckedRatio]:
    """Return our rate as a multiple of each other side's that it should reach."""
    checked: dict[str, CheckedRatio] = {}
    for name, least in LEAST_RATIOS.items():
        cpu = rate_ratio(sides.get(OURS, []), sides.get(name, []), "cpu_seconds")
        wall = rate_ratio(sides.get(OURS, []), sides.get(name, []), "wall_seconds")
        if cpu is not None and wall is not None:
            checked[name] = {
                "cpu": cpu,
                "wall": wall,
                "at_least": least,
                "verdict": verdict_of(cpu, least),
            }
    return checked


def verdict_of(ratio: Estimate, least: float) -> str:
    """Return whether a limit is met by the whole interval, by none of it, or lies within it."""
    if ratio.low < least <= ratio.high:
        return "undecided"
    return met_or_missed(ratio.low >= least)


def scaling_efficiencies(scaling: Mapping[str, Sequence[float]]) -> dict[str, Estimate]:
    """Return the rates of two runs and of two ranks as fractions of twice one rank's.

    Compared within each round; without what was not measured.
    """
    found: dict[str, Estimate] = {}
    for name in (TWO_RUNS, TWO_RANKS):
        pairs = zip(scaling.get(ONE_RANK, []), scaling.get(name, []), strict=False)
        ratios = [several / (2 * one) for one, several in pairs]
        if ratios:
            found[name] = estimate(ratios)
    return found


def all_limits(figures: CpuFigures) -> dict[str, dict[str, dict[str, CheckedRatio]]]:
    """Return size -> template -> side -> our rate as a multiple of that side's."""
    return {
        size: {template: checked_ratios(sides) for template, sides in templates.items()}
        for size, templates in figures["sides"].items()
    }


def show_cpu_figures(figures: CpuFigures) -> None:
    """Print everything that was measured on CPUs as tables."""
    for size, templates in figures["sides"].items():
        for template, sides in templates.items():
            if any(sides.values()):
                _show_sides(f"{size}, {template}", sides)
    _show_parts(figures)
    _show_scaling(figures["scaling"])


def _show_sides(title: str, sides: Measured) -> None:
    """Print a line for each side: a step's time, how our rate compares, memory."""
    ours = sides.get(OURS, [])
    rows: list[Sequence[str]] = []
    for name, rounds in sides.items():
        if not rounds:
            continue
        wall = statistics.median(each["wall_seconds"] for each in rounds)
        cpu = statistics.median(each["cpu_seconds"] for each in rounds)
        memory = statistics.median(each["peak_bytes"] for each in rounds)
        row = [name, f"{wall * 1e3:.1f}", f"{cpu * 1e3:.1f}", "", "", ""]
        if name != OURS:
            row[3:] = [
                _ratio_in_words(ours, rounds, "cpu_seconds"),
                _ratio_in_words(ours, rounds, "wall_seconds"),
                _verdict(sides, name),
            ]
        rows.append([*row, human_bytes(memory), str(len(rounds))])
    columns = ("", "wall, ms", "CPU, ms", "ours of it, CPU", "ours of it, wall", "wanted")
    show_table(
        f"{title}: a step, medians; 95 % intervals of ratios of rates within a round",
        (*columns, "memory", "rounds"),
        rows,
    )


def _ratio_in_words(side: Sequence[TurnFigures], other: Sequence[TurnFigures], clock: Clock) -> str:
    ratio = rate_ratio(side, other, clock)
    if ratio is None:
        return ""
    return str(ratio)


def _verdict(sides: Measured, name: str) -> str:
    checked = checked_ratios(sides).get(name)
    if checked is None:
        return ""
    return f"{checked['at_least']} {checked['verdict']}"


def _show_parts(figures: CpuFigures) -> None:
    """Print a table for each training: a line for each part of a step, a column for each side."""
    for size, templates in figures["parts"].items():
        for template, sides in templates.items():
            parts = list(dict.fromkeys(part for seconds in sides.values() for part in seconds))
            parts.sort(key=(REST, THREADS).__contains__)  # stable: what has no name comes last
            rows = [
                [part, *(_milliseconds(seconds.get(part)) for seconds in sides.values())]
                for part in parts
            ]
            rows.append(
                ["step", *(_milliseconds(sum(seconds.values())) for seconds in sides.values())]
            )
            show_table(f"{size}, {template}: parts of a step, CPU ms", ("", *sides), rows)


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.1f}"


def _show_scaling(scaling: Mapping[str, Sequence[float]]) -> None:
    """Print two ranks, and two runs at once, beside one rank."""
    efficiencies = scaling_efficiencies(scaling)
    if not efficiencies:
        return
    rows: list[Sequence[str]] = []
    for name, rates in scaling.items():
        efficiency = ""
        verdict = ""
        if name in efficiencies:
            efficiency = str(efficiencies[name])
        if name == TWO_RANKS:
            verdict = f"{LEAST_SCALING} {verdict_of(efficiencies[name], LEAST_SCALING)}"
        rows.append([name, f"{statistics.median(rates):,.0f}", efficiency, verdict])
    title = "Ranks, each on a core of its own"
    show_table(title, ("", "tokens/s", "of ideal", ""), rows)
