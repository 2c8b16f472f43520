"""The process groups of a job's ranks, and the collective operations on them.

The only file that calls `torch.distributed`. The functions take the size of each group, and this
rank's position in it, from a record of `config/groups.py`. The name of a function shows which ranks
have to call it. Every rank reads different samples, so that the data group is the world group.
"""

import os
import platform
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import DeepSpeedAccelerator, get_accelerator
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from pipeline.config.groups import RankGroups

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
INTERFACE = "lo"
TIMEOUT = timedelta(minutes=30)
"""Maximum duration of one collective operation; the supervisor ends hung ranks sooner."""
REPEAT_SECONDS = 1.0
MOST_REPEATS = 20
"""Time and largest number of all-reduces that `all_reduce_seconds` measures."""

LEFT_OUT = (
    "all_reduce",
    "reduce",
    "reduce_scatter_tensor",
    "all_gather",
    "all_gather_into_tensor",
    "all_to_all_single",
    "broadcast",
)
"""Operations of DeepSpeed's backend that `without_reduction` leaves out."""
MOST_FIGURES = 64
"""Elements up to which a vector holds figures that ranks agree on, such as norms; a larger one holds
gradients or weights."""


class _FinishedWork:
    """What an operation that was left out returns in place of torch's handle."""

    def wait(self) -> bool:
        return True

    def is_completed(self) -> bool:
        return True


@dataclass(frozen=True)
class Meeting:
    """Where some processes, on one machine or several, meet for a measurement."""

    address: str
    """Address of the first of them."""
    port: int
    """Free TCP port there."""
    rank: int
    """Number of this process among them, from 0."""
    world: int
    """Number of processes."""
    limit_seconds: float
    """Longest time to wait for the others, and for one operation."""


def leave_out_shared_memory_operator() -> None:
    """Keep DeepSpeed in this process from compiling an operator for ranks on CPUs.

    It is a collective operation in shared memory, which only DeepSpeed's inference uses. It takes
    minutes at the first run, leaves a lock when its build is killed, and 69 MB in /dev/shm for
    every rank.
    """
    # The table is replaced as a whole: reading it first would make DeepSpeed try a compiler on
    # each of its operators, a second for every rank.
    deepspeed.ops.__dict__["__compatible_ops__"] = {"deepspeed_shm_comm": False}


def join_process_groups(groups: RankGroups) -> None:
    """Join the process group of all ranks: NCCL on GPUs, gloo on CPUs.

    Where all ranks are on this machine, the group listens on the loopback interface only.
    """
    leave_out_shared_memory_operator()

    # A group that exists is used by DeepSpeed; otherwise it makes one from the environment.
    if os.environ.get("MASTER_ADDR") == LOOPBACK:
        _join_on_loopback(groups, int(os.environ["MASTER_PORT"]))
    deepspeed.init_distributed(verbose=False)
    assert dist.get_world_size() == groups.sizes.world
    assert dist.get_rank() == groups.world_rank


def _join_on_loopback(groups: RankGroups, port: int) -> None:
    """Make a process group that no other machine can reach, since it asks nobody for a password.

    By default torch listens on every interface, and gloo on the interface of the host's name.
    """
    _use_loopback_interface()
    world = groups.sizes.world
    listening = None
    if groups.is_rank_0:
        listening = socket.create_server((LOOPBACK, port), backlog=1024).detach()
    store = TCPStore(LOOPBACK, port, world, groups.is_rank_0, TIMEOUT, master_listen_fd=listening)
    dist.init_process_group(
        collective_backend(), timeout=TIMEOUT, store=store, rank=groups.world_rank, world_size=world
    )


def _use_loopback_interface() -> None:
    if INTERFACE in [name for _, name in socket.if_nameindex()]:
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, INTERFACE)


def collective_backend() -> str:
    """Return the library that ranks of this process's device communicate with: nccl or gloo."""
    accelerator = cast("DeepSpeedAccelerator", get_accelerator())
    return cast("str", accelerator.communication_backend_name())


def leave_process_groups() -> None:
    """Leave the process groups if this process has joined them."""
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
    """Return on every rank the values of all ranks of the job, in the order of the ranks."""
    values = [value] * groups.sizes.world  # every place is overwritten
    dist.all_gather_object(values, value)
    return values


def broadcast_from_rank_0(value: T) -> T:
    """Return rank 0's value on every rank of the job; the values of the other ranks are ignored."""
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def exchange_among_world_ranks(
    sent: torch.Tensor, sent_sizes: list[int], received_sizes: list[int]
) -> torch.Tensor:
    """Send each rank a part of a vector; return the parts that all ranks sent to this one.

    `sent_sizes` and `received_sizes` count elements, by rank.
    """
    received = sent.new_empty(sum(received_sizes))
    if _left_out:
        return received.fill_(1.0)
    dist.all_to_all_single(received, sent, received_sizes, sent_sizes)
    return received


_left_out: list[str] = []
"""Not empty within `without_reduction`."""


@contextmanager
def without_reduction() -> Generator[None]:
    """Leave out what ranks send each other to train, so that the rest of a step can be timed.

    Gradients are not reduced and weights not gathered within the context; figures such as norms
    are. All ranks enter it together. Weights are right afterwards only where the learning rate is
    0; at ZeRO stage 3, where weights are gathered in order to compute, they never are.
    """
    # The backend's own methods are hidden by attributes of the object.
    backend: Any = deepspeed.comm.comm.cdb
    for name in LEFT_OUT:
        setattr(backend, name, _unless_large(getattr(backend, name)))
    _left_out.append("reduction")
    try:
        yield
    finally:
        _left_out.clear()
        for name in LEFT_OUT:
            delattr(backend, name)


def _unless_large(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return a collective operation that does nothing with vectors of more than MOST_FIGURES."""

    def operate(*arguments: Any, **named: Any) -> Any:
        tensors = [
            value for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor)
        ]
        if all(tensor.numel() <= MOST_FIGURES for tensor in tensors):
            return operation(*arguments, **named)
        return _FinishedWork()

    return operate


def wait_for_world_ranks(device: torch.device) -> None:
    """Return when the device has ended all that it was given, and all ranks have come here."""
    meeting = torch.zeros(1, device=device)
    dist.all_reduce(meeting)
    meeting.item()


def nodes_of_world_ranks(groups: RankGroups) -> int:
    """Return the number of machines that the ranks of the job run on; every rank calls it."""
    return len(set(gather_from_world_ranks(platform.node(), groups)))


def reduction_seconds(elements: int, device: torch.device, repeats: int) -> list[float]:
    """Return the seconds of each of some all-reduces of a fp32 vector among all ranks of the job."""
    values = torch.zeros(elements, device=device)
    # The first one makes the connections.
    _timed_all_reduce(values)
    return [_timed_all_reduce(values) for _ in range(repeats)]


def all_reduce_seconds(meeting: Meeting, values: torch.Tensor) -> list[float]:
    """Return the seconds of each of several all-reduces of a vector on this rank.

    All processes of the meeting call it; the group exists only meanwhile. Raises RuntimeError where
    they do not meet or an operation fails within the meeting's limit.
    """
    if meeting.address == LOOPBACK:
        _use_loopback_interface()
    limit = timedelta(seconds=meeting.limit_seconds)
    is_first = meeting.rank == 0
    store = TCPStore(meeting.address, meeting.port, meeting.world, is_first, limit)
    dist.init_process_group(
        collective_backend(),
        timeout=limit,
        store=store,
        rank=meeting.rank,
        world_size=meeting.world,
    )
    try:
        # The first one also makes the connections, the second one tells how many there is time for.
        _timed_all_reduce(values)
        repeats = values.new_tensor([REPEAT_SECONDS / _timed_all_reduce(values)])
        dist.broadcast(repeats, src=0)
        count = max(1, min(MOST_REPEATS, int(repeats.item())))
        return [_timed_all_reduce(values) for _ in range(count)]
    finally:
        dist.destroy_process_group()


def _timed_all_reduce(values: torch.Tensor) -> float:
    """Return the seconds of one all-reduce; on a GPU it has ended when its result can be read."""
    started = time.monotonic()
    dist.all_reduce(values)
    values[0].item()
    return time.monotonic() - started
