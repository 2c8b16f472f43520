"""What `pipeline benchmark start` has measured: medians and spreads, the ratio of its sides, tables."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from pipeline.benchmarks.common import met_or_missed, show_table
from pipeline.benchmarks.starting.measured_start import TOGETHER, MeasuredStart, Parts, PartTimes
from pipeline.logs import console

FORKED = "forked ranks"
SEPARATE = "DeepSpeed's launcher"
START = "from the command to the first step"
RESTART = "from the kill of a rank to the next first step"
MOST_OF_SEPARATE = 0.5
"""Largest ratio of CPU seconds to those with DeepSpeed's launcher that is wanted."""


class Spread(TypedDict):
    """One figure over all rounds, in seconds."""

    median: float
    least: float
    most: float


class PartResults(TypedDict):
    """One part of a start."""

    cpu_seconds: Spread | None
    """User and system time; None where it is not known for this part alone."""
    seconds: Spread | None
    """Time on the clock; None where parts run side by side."""


class SideResults(TypedDict):
    """One way of starting ranks."""

    rounds: int
    """Rounds that were measured to their end."""
    start: Mapping[str, PartResults]
    restart: Mapping[str, PartResults]


class StartResults(TypedDict):
    """What the JSON file holds."""

    sides: Mapping[str, SideResults]
    start_ratio: float | None
    """CPU seconds of a start with forked ranks / with DeepSpeed's launcher; None without both."""
    restart_ratio: float | None
    """The same of a restart."""


def summarise_starts(rounds: Mapping[str, Sequence[MeasuredStart]]) -> StartResults:
    """Return medians and spreads of the rounds of each side, and the ratio of the sides."""
    sides: dict[str, SideResults] = {
        side: {
            "rounds": len(measured),
            "start": _summarise_parts([each.start for each in measured]),
            "restart": _summarise_parts([each.restart for each in measured]),
        }
        for side, measured in rounds.items()
        if measured
    }
    starts = {side: results["start"] for side, results in sides.items()}
    restarts = {side: results["restart"] for side, results in sides.items()}
    return {
        "sides": sides,
        "start_ratio": _ratio_of_sides(starts),
        "restart_ratio": _ratio_of_sides(restarts),
    }


def _summarise_parts(rounds: Sequence[Parts]) -> dict[str, PartResults]:
    # All together comes last, also where only a later round had some part.
    names = list(dict.fromkeys(name for parts in rounds for name in parts))
    names.sort(key=lambda name: name == TOGETHER)
    return {
        name: {
            "cpu_seconds": _spread(rounds, name, lambda part: part.cpu_seconds),
            "seconds": _spread(rounds, name, lambda part: part.seconds),
        }
        for name in names
    }


def _spread(
    rounds: Sequence[Parts], name: str, figure: Callable[[PartTimes], float | None]
) -> Spread | None:
    values = [figure(parts[name]) for parts in rounds if name in parts]
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": statistics.median(known), "least": min(known), "most": max(known)}


def _ratio_of_sides(sides: Mapping[str, Mapping[str, PartResults]]) -> float | None:
    if FORKED not in sides or SEPARATE not in sides:
        return None
    forked = sides[FORKED][TOGETHER]["cpu_seconds"]
    separate = sides[SEPARATE][TOGETHER]["cpu_seconds"]
    assert forked is not None and separate is not None, "all processes together are always counted"
    return forked["median"] / separate["median"]


def show_start_results(results: StartResults) -> None:
    """Print a table for the start and one for the restart of each side, and the ratios."""
    for side, measured in results["sides"].items():
        _show_parts(f"{side}, {START}", measured["start"])
        _show_parts(f"{side}, {RESTART}", measured["restart"])
    for words, ratio in ((START, results["start_ratio"]), (RESTART, results["restart_ratio"])):
        if ratio is not None:
            console.print(
                f"{words}: {FORKED} take {ratio:.2f} of the CPU seconds of {SEPARATE} "
                f"({MOST_OF_SEPARATE:g} at most wanted: {met_or_missed(ratio <= MOST_OF_SEPARATE)})"
            )


def _show_parts(title: str, parts: Mapping[str, PartResults]) -> None:
    columns = ("part", "CPU seconds", "least to most", "seconds", "least to most")
    rows = [
        [name, *_cells(part["cpu_seconds"]), *_cells(part["seconds"])]
        for name, part in parts.items()
    ]
    show_table(title, columns, rows)


def _cells(spread: Spread | None) -> tuple[str, str]:
    if spread is None:
        return "", ""
    return f"{spread['median']:.2f}", f"{spread['least']:.2f} to {spread['most']:.2f}"
