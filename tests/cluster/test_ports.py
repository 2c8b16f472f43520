"""What ended ranks leave in shared memory, found by the port at which they met."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster.ports import PORTS, remove_shared_memory

PORT = PORTS.start - 1
"""A port that no rank is given, so that no other test's buffers have its number."""


@pytest.fixture
def left_behind() -> Iterator[dict[str, Path]]:
    """Yield a buffer of the port, and one of the port whose number is ten times as large."""
    names = {"its own": f"0_127.0.0.1_{PORT}_0", "another's": f"0_127.0.0.1_{PORT}0_0"}
    files = {
        whose: Path(f"/dev/shm/deepspeed_allreduce_buffer_{name}") for whose, name in names.items()
    }
    for file in files.values():
        file.touch()
    yield files
    for file in files.values():
        file.unlink(missing_ok=True)


def test_buffers_of_a_port_are_removed_and_no_others(left_behind: dict[str, Path]) -> None:
    remove_shared_memory(PORT)
    assert not left_behind["its own"].exists()
    assert left_behind["another's"].exists()
