"""What the ranks of one machine can be reached by."""

from pathlib import Path
from typing import Any

import pytest
from ranks import in_ranks

from pipeline.config.run_config import RunConfig

LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1 as the kernel writes them."""


def listening_addresses() -> list[str]:
    """Return the local addresses on which this process takes connections, as in /proc/net/tcp."""
    own = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        if descriptor.is_symlink():  # not the one of this very listing
            own.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    addresses = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == LISTENING and inode in own:
                addresses.append(local.partition(":")[0])
    return addresses


def meet(config: RunConfig) -> dict[str, Any]:
    import torch
    import torch.distributed as dist

    from pipeline.engine.groups import join_process_groups
    from pipeline.store.rank_environment import groups_of_this_process

    groups = groups_of_this_process()
    join_process_groups(groups)
    total = torch.ones(1)
    dist.all_reduce(total)
    dist.all_reduce(total, group=dist.new_group([0, 1]))
    found: list[list[str]] = [[], []]
    dist.all_gather_object(found, listening_addresses())
    return {"total": total.item(), "addresses": found}


@pytest.mark.ranks
def test_ranks_of_one_machine_listen_on_loopback_alone(run_file: Path) -> None:
    """Rendezvous and collectives have no authentication."""
    outcome = in_ranks(run_file, 2, meet)
    assert outcome["total"] == 4
    assert all(outcome["addresses"])
    assert {address for rank in outcome["addresses"] for address in rank} <= LOOPBACK
