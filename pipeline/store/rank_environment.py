"""The environment variables by which a launcher gives each process its rank.

Only this module spells them: torch's names, set from Slurm's under srun. Does not import torch.
"""

import os
from collections.abc import Mapping

from pipeline.config.groups import RankGroups, group_sizes, groups_of_rank

WORLD_RANK = "RANK"
WORLD_SIZE = "WORLD_SIZE"
LOCAL_RANK = "LOCAL_RANK"
"""Number of the rank among the ranks of one machine."""
THREADS_VARIABLE = "OMP_NUM_THREADS"
"""Number of threads of each rank; the launch sets it where the user has not."""
ALLOCATOR_VARIABLE = "GLIBC_TUNABLES"
ALLOCATOR = "glibc.malloc."
"""What the names of malloc's settings in ALLOCATOR_VARIABLE begin with."""
KEPT_MEMORY = {
    "mmap_threshold": 32 << 20,
    "trim_threshold": 1 << 40,
    "hugetlb": 1,
}
"""Settings of malloc: freed memory is kept for the next step, up to tensors of 32 MiB, and asked for
in huge pages. By default large tensors are given back to the kernel when they are freed, which
clears every page of the next step's again: up to 30,000 pages a step with 10 million parameters.
Larger ones still are: between smaller ones they would leave gaps of their size, 90 MB at ZeRO 2.
Source: the GNU C library's manual, "Memory Allocation Tunables"."""


def host_memory_variables() -> dict[str, str]:
    """Return the variables that let ranks on CPUs keep their memory from step to step."""
    return allocator_variables(KEPT_MEMORY)


def allocator_variables(settings: Mapping[str, int]) -> dict[str, str]:
    """Return the variables that give a program settings of malloc, by their names in the C library.

    The C library reads them when a program starts; other C libraries ignore them. What the user has
    set for malloc stays as it is: then there are none.
    """
    if allocator_is_set():
        return {}
    tunables = os.environ.get(ALLOCATOR_VARIABLE, "")
    ours = [f"{ALLOCATOR}{name}={value}" for name, value in settings.items()]
    return {ALLOCATOR_VARIABLE: ":".join([*filter(None, [tunables]), *ours])}


def allocator_is_set() -> bool:
    """Tell whether the environment of this process has settings of malloc."""
    is_tuned = ALLOCATOR in os.environ.get(ALLOCATOR_VARIABLE, "")
    return is_tuned or any(name.startswith("MALLOC_") for name in os.environ)


def groups_of_this_process() -> RankGroups:
    """Return this rank's places in the groups of ranks, from the launcher's variables."""
    world = int(os.environ[WORLD_SIZE])
    return groups_of_rank(group_sizes(world), int(os.environ[WORLD_RANK]))


def is_first_on_its_machine() -> bool:
    """Tell whether this rank is the one that does the work needed once on each machine."""
    return os.environ[LOCAL_RANK] == "0"


def adopt_slurm_environment() -> None:
    """Set torch's variables from Slurm's under srun.

    MASTER_ADDR and MASTER_PORT come from the supervisor.
    """
    if WORLD_RANK not in os.environ and "SLURM_PROCID" in os.environ:
        os.environ[WORLD_RANK] = os.environ["SLURM_PROCID"]
        os.environ[LOCAL_RANK] = os.environ["SLURM_LOCALID"]
        os.environ[WORLD_SIZE] = os.environ["SLURM_NTASKS"]


def number_on_node() -> int:
    """Return the number of this task of an srun step among those of its node."""
    return int(os.environ["SLURM_LOCALID"])


def without_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables of a rank, for a launcher, which is none."""
    names = (WORLD_RANK, WORLD_SIZE, LOCAL_RANK)
    return {name: value for name, value in environment.items() if name not in names}


def environment_of_rank(world_rank: int, world: int, port: int) -> dict[str, str]:
    """Return the variables of a rank on this machine alone, those of DeepSpeed's launcher."""
    return {
        WORLD_RANK: str(world_rank),
        WORLD_SIZE: str(world),
        LOCAL_RANK: str(world_rank),
        "LOCAL_SIZE": str(world),
        "CROSS_RANK": "0",
        "CROSS_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
