"""The variables with which ranks on CPUs keep their memory from step to step."""

import os
import subprocess
import sys

import pytest

from pipeline.cluster import launch
from pipeline.cluster.hostfile_launch import carried_variables
from pipeline.store.rank_environment import ALLOCATOR_VARIABLE, host_memory_variables

FAULTS = """
import resource, torch
def fault_count(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident_pages(): return int(open("/proc/self/statm").read().split()[1])
for _ in range(3): torch.zeros(1 << 22).add_(1)
before = fault_count()
for _ in range(50): torch.ones(1 << 22).add_(1)
print(fault_count() - before)
before = resident_pages()
torch.ones(1 << 24)
print(resident_pages() - before)
"""
"""Makes and frees tensors of 16 MB, and one of 64 MB."""


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOCATOR_VARIABLE, raising=False)
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)


@pytest.mark.ranks
def test_tensors_of_the_next_step_take_the_memory_of_this_one() -> None:
    environment = {**os.environ, **host_memory_variables()}
    command = [sys.executable, "-c", FAULTS]
    kept = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    faults, pages_left = map(int, kept.stdout.split())
    # Given back, each of the 50 turns would have 4,096 pages of 4 kB again.
    assert faults < 5_000
    # A large tensor, of 16,384 such pages, is given back.
    assert pages_left < 4_000


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        part.partition("=")[0] for part in host_memory_variables()[ALLOCATOR_VARIABLE].split(":")
    ]
    assert names == [
        f"glibc.malloc.{name}" for name in ("mmap_threshold", "trim_threshold", "hugetlb")
    ]
    monkeypatch.setenv(ALLOCATOR_VARIABLE, "glibc.pthread.rseq=0")
    value = host_memory_variables()[ALLOCATOR_VARIABLE]
    assert value.startswith("glibc.pthread.rseq=0:glibc.malloc.")
    monkeypatch.setenv(ALLOCATOR_VARIABLE, "glibc.malloc.arena_max=1")
    assert host_memory_variables() == {}
    monkeypatch.delenv(ALLOCATOR_VARIABLE)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert host_memory_variables() == {}


def test_ranks_on_cpus_get_them_and_ranks_on_gpus_do_not() -> None:
    assert ALLOCATOR_VARIABLE in launch.rank_environment(0, 2)
    assert ALLOCATOR_VARIABLE not in launch.rank_environment(2, 2)
    assert ALLOCATOR_VARIABLE in carried_variables(launch.rank_environment(0, 2))
