"""Hold the marker `ranks` to what tests do: it is on those that start ranks or other processes, and on
no others, so that `pytest -m "not ranks"` is all that is arithmetic.

What a fixture has started counts for every test that uses it. So does, for a marked test, what an
earlier one has started while both used a fixture of their module: a verdict that a process gave is
kept in the fixture's folder, and not asked for again. Programs that only tell a version count for
none.
"""

import multiprocessing.process
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pipeline.work.warm.warm_python import ForkedProgram, WarmPython

NOT_COUNTED = {"git", "ninja", "uname"}
"""A manifest asks git for the commit and uname for the machine, and transformers asks whether ninja is
there."""

started: list[str] = []
"""Names of the programs that this process has started."""
started_by_fixture: dict[tuple[str, str], bool] = {}
"""(name, where it is defined) of a fixture -> whether its last set-up started a process."""
started_around_fixture: set[tuple[str, str]] = set()
"""Fixtures of a module that a test has used which started a process."""
started_before = pytest.StashKey[int]()


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        program = Path(os.fsdecode(arguments[0])).name
        if program not in NOT_COUNTED:
            started.append(program)
    elif event in ("os.fork", "os.posix_spawn", "os.system"):
        started.append(event)


def _start_and_note(process: multiprocessing.process.BaseProcess) -> None:
    started.append("multiprocessing")
    _start(process)


def _fork_and_note(self: WarmPython, *given: Any, **named: Any) -> ForkedProgram:
    started.append("a fork of a warm process")
    return _fork(self, *given, **named)


sys.addaudithook(_note)
# A process of multiprocessing raises no event of the interpreter.
_start = multiprocessing.process.BaseProcess.start
multiprocessing.process.BaseProcess.start = _start_and_note
# Nor does a process that a warm one forks.
_fork = WarmPython.start
WarmPython.start = _fork_and_note


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    before = len(started)
    try:
        return (yield)
    finally:
        name = (fixturedef.argname, fixturedef.baseid)
        started_by_fixture[name] = len(started) > before


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[started_before] = len(started)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    is_marked = item.get_closest_marker("ranks") is not None
    fixtures = used_fixtures(item)
    has_started = len(started) > item.stash[started_before]
    starts = has_started or any(started_by_fixture.get(name, False) for name in fixtures)
    if starts and not is_marked:
        names = ", ".join(dict.fromkeys(started[item.stash[started_before] :])) or "a fixture's"
        pytest.fail(f"starts a process ({names}): mark it with pytest.mark.ranks", pytrace=False)
    if is_marked and not starts and started_around_fixture.isdisjoint(fixtures):
        pytest.fail("starts no process: take pytest.mark.ranks away", pytrace=False)
    if has_started:
        started_around_fixture.update(used_fixtures(item, "module"))
    return result


def used_fixtures(item: pytest.Item, scope: str | None = None) -> set[tuple[str, str]]:
    """Return the fixtures, of one scope or of all, that a test uses and this file's hooks have seen
    set up."""
    definitions = item._fixtureinfo.name2fixturedefs.values()
    names = {
        (one.argname, one.baseid)
        for several in definitions
        for one in several
        if scope is None or one.scope == scope
    }
    return names & started_by_fixture.keys()
