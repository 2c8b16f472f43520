"""Which test files cost most: CPU seconds of each, printed by `--dearest-files N` after the tests.

A file's seconds are user and system time of the process that ran its tests, and of all processes that
they started and waited for; a fixture counts where it is made. `pytest -n` adds up its processes.
"""

import resource
from collections.abc import Generator
from typing import Any

import pytest

COLLECTING = "(importing and collecting)"
"""What the processes did before the first test, in place of a file."""

seconds_by_file = pytest.StashKey[dict[str, float]]()
"""File -> CPU seconds, as each process that runs tests measures it."""


def cpu_seconds() -> float:
    """Return user and system time of this process and of the ended processes that it waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--dearest-files",
        type=int,
        default=0,
        metavar="N",
        help="print the CPU seconds of the N test files that cost most",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[seconds_by_file] = {COLLECTING: cpu_seconds()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add what a test and the fixtures made or ended around it cost to its file's seconds."""
    before = cpu_seconds()
    try:
        return (yield)
    finally:
        seconds = item.config.stash[seconds_by_file]
        file = item.location[0]
        seconds[file] = seconds.get(file, 0.0) + cpu_seconds() - before


def pytest_sessionfinish(session: pytest.Session) -> None:
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
