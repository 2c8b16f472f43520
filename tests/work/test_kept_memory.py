"""The memory that a process keeps from one work item to the next."""

import os
import platform
import subprocess
import sys

import pytest

from pipeline.store.rank_environment import ALLOCATOR_VARIABLE
from pipeline.work.kept_memory import worker_memory_variables

FAULTS = """
import resource
from pipeline.work.kept_memory import keep_freed_memory

def pages_asked_for():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        freed = [bytearray(12 << 20) for _ in range(4)]
        del freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages_asked_for()
before = pages_asked_for()
print(keep_freed_memory())
pages_asked_for()
print(before, pages_asked_for())
"""
"""Allocates and frees 48 MB ten times: 12,288 pages of 4 kB each time."""


@pytest.mark.ranks
def test_memory_of_one_item_serves_the_next() -> None:
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    environment.pop(ALLOCATOR_VARIABLE, None)

    def run(variables: dict[str, str]) -> list[str]:
        command = [sys.executable, "-c", FAULTS]
        return subprocess.run(
            command, env=environment | variables, capture_output=True, text=True, check=True
        ).stdout.split()

    was_possible, before, after = run({})
    assert was_possible == str(platform.libc_ver()[0] == "glibc")
    if was_possible == "True":
        assert int(before) > 10 * int(after)
    # What the user has set stays as it is.
    assert run({"MALLOC_TRIM_THRESHOLD_": "65536"})[0] == "False"


def test_worker_processes_start_with_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "MALLOC_" in name]:
        monkeypatch.delenv(name)
    monkeypatch.delenv(ALLOCATOR_VARIABLE, raising=False)
    settings = ("mmap_threshold=33554432", "trim_threshold=134217728", "arena_max=1")
    expected = ":".join(f"glibc.malloc.{setting}" for setting in settings)
    assert worker_memory_variables() == {ALLOCATOR_VARIABLE: expected}
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert worker_memory_variables() == {}
