"""Which test files cost most: CPU seconds of each, printed by `--dearest-files N` after the tests.

A file's seconds are user and system time of the process that ran its tests and of all that they
started: processes that ended, and those that live, such as the server from which ranks are forked. A
fixture counts where it is made. `pytest -n` adds up its processes.
"""

import os
import resource
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

COLLECTING = "(importing and collecting)"
"""What the processes did before the first test, in place of a file."""
STOPPED = "(after the last file that came to its end)"
"""Where the tests stop at a failure, the file of that failure; otherwise next to nothing."""

TICKS = os.sysconf("SC_CLK_TCK")
"""Ticks of a second in /proc."""

seconds_by_file = pytest.StashKey[dict[str, float]]()
"""File -> CPU seconds, as each process that runs tests measures it."""
counted = pytest.StashKey[float]()
"""CPU seconds that are in `seconds_by_file` already."""


def cpu_seconds() -> float:
    """Return user and system time of this process and of all that it has started."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ended = sum(usage.ru_utime + usage.ru_stime for usage in used)
    return ended + sum(_seconds_of(process) for process in _living_below("self"))


def _living_below(process: str) -> Iterator[str]:
    """Yield the ids of the processes that a process has started and their descendants."""
    for children in Path("/proc", process, "task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield child
                yield from _living_below(child)


def _seconds_of(process: str) -> float:
    """Return the time of a living process and of those that it waited for; 0 if it has ended."""
    with suppress(OSError):
        # The name, in parentheses, may have spaces; utime, stime, cutime and cstime come 11 later.
        fields = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS
    return 0.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--dearest-files",
        type=int,
        default=0,
        metavar="N",
        help="print the CPU seconds of the N test files that cost most",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[seconds_by_file] = {}
    session.config.stash[counted] = 0.0
    _count(session.config, COLLECTING)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, Any, Any]:
    """After the last test of a file, whose fixtures are gone by then, count what it took."""
    try:
        return (yield)
    finally:
        file = item.location[0]
        if nextitem is None or nextitem.location[0] != file:
            _count(item.config, file)


def _count(config: pytest.Config, file: str) -> None:
    """Add all CPU time since the last call to a file's seconds."""
    now = cpu_seconds()
    seconds = config.stash[seconds_by_file]
    # The time of an orphan that has ended is lost.
    seconds[file] = seconds.get(file, 0.0) + max(0.0, now - config.stash[counted])
    config.stash[counted] = now


def pytest_sessionfinish(session: pytest.Session) -> None:
    if counted in session.config.stash:
        _count(session.config, STOPPED)
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["cpu_seconds"] = session.config.stash.get(seconds_by_file, {})


def pytest_testnodedown(node: Any) -> None:
    """Add what one process of `pytest -n` has measured to what the others have."""
    measured = getattr(node, "workeroutput", {}).get("cpu_seconds", {})
    together = node.config.stash.setdefault(seconds_by_file, {})
    for file, seconds in measured.items():
        together[file] = together.get(file, 0.0) + seconds


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    most = config.getoption("--dearest-files")
    if most:
        for line in dearest_lines(config.stash.get(seconds_by_file, {}), most):
            terminalreporter.write_line(line)


def dearest_lines(seconds: dict[str, float], most: int) -> list[str]:
    """Return a heading with the sum, and a line for each of the files that cost most."""
    dearest = sorted(seconds.items(), key=lambda file: -file[1])[:most]
    total = sum(seconds.values())
    named = sum(used for _, used in dearest)
    heading = (
        f"CPU seconds: {total:,.1f} in {len(seconds):,} files, of which these {len(dearest)} took "
        f"{named:,.1f}"
    )
    return [heading, *(f"{used:8.1f}  {file}" for file, used in dearest)]
