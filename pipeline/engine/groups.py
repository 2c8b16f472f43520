"""The process groups of a job's ranks, and what ranks send each other through them.

The only file that talks to `torch.distributed`. Sizes and this rank's places come from the record
of `config/groups.py`; functions here take it, and say in their names which ranks take part. While
each rank of the world reads its own samples, both groups are the one of all ranks.
"""

import os
import socket
from datetime import timedelta
from typing import Any, TypeVar

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from pipeline.config.groups import RankGroups

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
INTERFACE = "lo"
TIMEOUT = timedelta(minutes=30)
"""Longest time of one collective; the supervisor ends hung ranks sooner."""


def join_process_groups(groups: RankGroups) -> None:
    """Join the group of all ranks, NCCL on GPUs and gloo on CPUs.

    It listens on the loopback interface alone where all ranks are on this machine.
    """
    # On CPUs DeepSpeed would compile a shared-memory collective that only its inference uses:
    # minutes at the first run, a lock that outlives a killed build, and 69 MB left in /dev/shm by
    # every rank. The table is set as a whole: reading it first would have DeepSpeed try a compiler
    # on each of its operators, a second for every rank.
    deepspeed.ops.__dict__["__compatible_ops__"] = {"deepspeed_shm_comm": False}
    if os.environ.get("MASTER_ADDR") == LOOPBACK:
        _meet_on_this_machine(groups, int(os.environ["MASTER_PORT"]))
    # Takes the group that there is, else makes one of the environment.
    deepspeed.init_distributed(verbose=False)
    assert dist.get_world_size() == groups.sizes.world
    assert dist.get_rank() == groups.world_rank


def _meet_on_this_machine(groups: RankGroups, port: int) -> None:
    """Make the process group so that nothing of it can be reached from another machine: it asks
    nobody for a password.

    By itself torch listens on every interface, and gloo on the one that the host's name stands for.
    """
    if INTERFACE in [name for _, name in socket.if_nameindex()]:
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, INTERFACE)
    world = groups.sizes.world
    listening = None
    if groups.is_rank_0:
        listening = socket.create_server((LOOPBACK, port), backlog=1024).detach()
    store = TCPStore(LOOPBACK, port, world, groups.is_rank_0, TIMEOUT, master_listen_fd=listening)
    accelerator: Any = get_accelerator()
    backend = accelerator.communication_backend_name()
    dist.init_process_group(
        backend, timeout=TIMEOUT, store=store, rank=groups.world_rank, world_size=world
    )


def leave_process_groups() -> None:
    """Leave the groups, if this process has joined them."""
    if dist.is_initialized():
        dist.destroy_process_group()


def sum_over_world_ranks(values: torch.Tensor) -> None:
    """Replace values by their sums over all ranks of the job."""
    dist.all_reduce(values)


def sum_over_data_ranks(values: torch.Tensor, groups: RankGroups) -> None:
    """Replace values by their sums over the ranks that read different samples."""
    assert groups.sizes.data == groups.sizes.world, "data ranks would need a process group"
    dist.all_reduce(values)


def gather_from_world_ranks(value: T, groups: RankGroups) -> list[T]:
    """Return the values of all ranks of the job, in their order, on each of them."""
    values: list[Any] = [None] * groups.sizes.world
    dist.all_gather_object(values, value)
    return values


def broadcast_from_rank_0(value: Any) -> Any:
    """Return rank 0's value on every rank of the job; what the others give is not looked at."""
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def exchange_among_world_ranks(
    sent: torch.Tensor, sent_sizes: list[int], received_sizes: list[int]
) -> torch.Tensor:
    """Send each rank a stretch of a vector; returns the stretches of all ranks, in their order.

    Sizes are elements by rank.
    """
    received = sent.new_empty(sum(received_sizes))
    dist.all_to_all_single(received, sent, received_sizes, sent_sizes)
    return received
