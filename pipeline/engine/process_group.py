"""Where a job's ranks meet: on the loopback interface alone where all of them are on this
machine."""

import os
import socket
from datetime import timedelta
from typing import Any

import deepspeed
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

LOOPBACK = "127.0.0.1"
INTERFACE = "lo"
TIMEOUT = timedelta(minutes=30)
"""Longest time of one collective; the supervisor ends hung ranks sooner."""


def join_process_group() -> None:
    """Join the ranks' process group, NCCL on GPUs and gloo on CPUs."""
    # On CPUs DeepSpeed would compile a shared-memory collective that only its inference uses:
    # minutes at the first run, a lock that outlives a killed build, and 69 MB left in /dev/shm by
    # every rank. The table is set as a whole: reading it first would have DeepSpeed try a compiler
    # on each of its operators, a second for every rank.
    deepspeed.ops.__dict__["__compatible_ops__"] = {"deepspeed_shm_comm": False}
    if os.environ.get("MASTER_ADDR") == LOOPBACK:
        _meet_on_this_machine(
            int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["MASTER_PORT"])
        )
    deepspeed.init_distributed(
        verbose=False
    )  # takes the group that there is, else makes one of the environment


def _meet_on_this_machine(rank: int, ranks: int, port: int) -> None:
    """Make the process group so that nothing of it can be reached from another machine: it asks
    nobody for a password.

    By itself torch listens on every interface, and gloo on the one that the host's name stands for.
    """
    if INTERFACE in [name for _, name in socket.if_nameindex()]:
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, INTERFACE)
    listening = None
    if rank == 0:
        listening = socket.create_server((LOOPBACK, port), backlog=1024).detach()
    store = TCPStore(LOOPBACK, port, ranks, rank == 0, TIMEOUT, master_listen_fd=listening)
    accelerator: Any = get_accelerator()
    backend = accelerator.communication_backend_name()
    dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=rank, world_size=ranks)
