"""Measure, for `pipeline doctor`, how fast this node multiplies matrices and reduces with others.

Started on all nodes at the same time by `cluster/doctor/node_program.py`, with a `RateQuestion` as
its argument. Writes a `RateReport` to standard output after each measurement, so that the last line
is what is known if a later one hangs. What needs no torch comes first.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from pipeline.engine.extensions import is_operator_built
from pipeline.errors import UserError, one_line
from pipeline.work.node_reports import (
    DeviceRate,
    LinkRate,
    RateQuestion,
    RateReport,
    empty_rates,
    rounds_of_pairs,
)

if TYPE_CHECKING:
    import torch

GPU_ROWS = 8192
"""Rows of the square matrices on a GPU: a product is 1.1e12 FLOPs, some milliseconds."""
CPU_ROWS = 1024
"""The same on CPU cores: 2.1e9 FLOPs, tens of milliseconds a core."""
PRODUCT_SECONDS = 1.5
"""Time of the products of one device, after a first one."""
GPU_BYTES = 64 << 20
"""Bytes of the vector that GPUs reduce."""
CPU_BYTES = 4 << 20
"""Bytes of the vector that CPUs reduce: a third of a second at 100 Mbit/s."""
FIRST_LINK_SECONDS = 60.0
"""Longest time to wait for the nodes of this node's first link: one may import torch slowly."""
LINK_SECONDS = 20.0
"""Longest time to wait for the nodes of a later link, and for one all-reduce."""


@dataclass(frozen=True)
class Link:
    """An all-reduce of some nodes, one of which is this one."""

    members: tuple[int, ...]
    """Numbers of the nodes; they meet at the first one."""
    port: int
    """Number of the port there, among its free ones."""
    peer: int | None
    """The other node; None where all nodes are members."""


class Measurements:
    """The report as it grows; each measurement is printed when it has ended."""

    def __init__(self, output: TextIO) -> None:
        self.report: RateReport = empty_rates()
        self._output = output

    @contextmanager
    def measured(self, name: str) -> Generator[None]:
        """Add the seconds of a measurement, or why it failed, and print the report."""
        started = time.monotonic()
        try:
            yield
        except (RuntimeError, OSError, UserError) as error:
            self.report["problems"][name] = one_line(error)
        before = self.report["seconds"].get(name, 0.0)
        self.report["seconds"][name] = before + time.monotonic() - started
        self._output.write(json.dumps(self.report) + "\n")
        self._output.flush()


def built_operators(names: list[str]) -> dict[str, bool]:
    """Tell for each DeepSpeed operator whether it has been compiled for this machine."""
    return {name: is_operator_built(name) for name in names}


def device_rates() -> list[DeviceRate]:
    """Measure each GPU that this process may use, or, without one, the CPU cores together."""
    import torch

    if not _computes_on_gpus():
        flops = product_flops(torch.device("cpu"), torch.float32, CPU_ROWS)
        rate: DeviceRate = {
            "name": "CPU",
            "dtype": "fp32",
            "flops": flops,
            "memory_bytes": 0,
            "used_bytes": 0,
        }
        return [rate]

    # bf16 where tensor cores have it, from compute capability 8.0 on.
    rates: list[DeviceRate] = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        dtype = "bf16"
        format_ = torch.bfloat16
        if torch.cuda.get_device_capability(number) < (8, 0):
            dtype = "fp16"
            format_ = torch.float16
        rates.append(
            {
                "name": torch.cuda.get_device_name(number),
                "dtype": dtype,
                "flops": product_flops(torch.device("cuda", number), format_, GPU_ROWS),
                "memory_bytes": total,
                "used_bytes": total - free,
            }
        )
    return rates


def _computes_on_gpus() -> bool:
    import torch

    return os.environ.get("DS_ACCELERATOR") != "cpu" and torch.cuda.is_available()


def product_flops(device: "torch.device", dtype: "torch.dtype", rows: int) -> float:
    """Return the FLOP/s of products of square matrices, 2 rows^3 FLOPs each: the median product."""
    import torch

    left = torch.rand(rows, rows, device=device).to(dtype)
    right = torch.rand(rows, rows, device=device).to(dtype)
    # The first product makes libraries and buffers ready.
    (left @ right)[0, 0].item()
    seconds: list[float] = []
    until = time.monotonic() + PRODUCT_SECONDS
    while not seconds or time.monotonic() < until:
        started = time.monotonic()
        product = left @ right
        # A GPU has ended when the result can be read.
        product[0, 0].item()
        seconds.append(time.monotonic() - started)
    return 2 * rows**3 / statistics.median(seconds)


def links_of_node(number: int, nodes: int) -> list[Link]:
    """Return the all-reduces of a node in their order: one other node a round, then all nodes."""
    links: list[Link] = []
    rounds = rounds_of_pairs(nodes)
    for index, pairs in enumerate(rounds):
        for pair in pairs:
            if number in pair:
                links.append(Link(pair, index, pair[1 - pair.index(number)]))
    # Two nodes are all: their pair was the measurement.
    if nodes > 2:
        links.append(Link(tuple(range(nodes)), len(rounds), None))
    return links


def link_rate(asked: RateQuestion, link: Link, limit: float) -> LinkRate:
    """Measure an all-reduce of some nodes, which wait at most `limit` seconds for each other."""
    import torch

    from pipeline.engine.groups import Meeting, all_reduce_seconds

    # Where the members meet, and what they reduce.
    first = link.members[0]
    meeting = Meeting(
        asked["addresses"][first],
        asked["ports"][first][link.port],
        rank=link.members.index(asked["number"]),
        world=len(link.members),
        limit_seconds=limit,
    )
    device = torch.device("cpu")
    size = CPU_BYTES
    if _computes_on_gpus():
        device = torch.device("cuda", 0)
        size = GPU_BYTES
    values = torch.zeros(size // 4, device=device)

    # A member that does not come is a finding, not an error of this program.
    try:
        seconds = statistics.median(all_reduce_seconds(meeting, values))
    except RuntimeError as error:
        return {"peer": link.peer, "bytes_per_second": 0.0, "problem": first_line(error)}
    return {
        "peer": link.peer,
        "bytes_per_second": bus_bandwidth(len(link.members), size, seconds),
        "problem": "",
    }


def first_line(error: Exception) -> str:
    """Return the first line of an error of torch, which is followed by frames of C++."""
    return one_line(error).partition(" Exception raised from ")[0]


def bus_bandwidth(members: int, size: int, seconds: float) -> float:
    """Return the bytes that each of some processes sends a second in an all-reduce.

    Source: NVIDIA, nccl-tests, doc/PERFORMANCE.md: 2 (n - 1) / n x size / time.
    """
    return 2 * (members - 1) / members * size / seconds


def main() -> None:
    """Measure what the question in the argument asks for."""
    # What libraries print goes to standard error, so that it does not mix with the report.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked: RateQuestion = json.loads(sys.argv[1])
    measurements = Measurements(output)
    report = measurements.report

    # Without torch.
    with measurements.measured("operators"):
        report["operators"] = built_operators(asked["operators"])

    with measurements.measured("import"):
        from pipeline.engine.groups import collective_backend

        report["backend"] = collective_backend()
    with measurements.measured("matmul"):
        report["devices"] = device_rates()
    limit = FIRST_LINK_SECONDS
    for link in links_of_node(asked["number"], len(asked["addresses"])):
        with measurements.measured("all-reduce"):
            report["links"].append(link_rate(asked, link, limit))
        limit = LINK_SECONDS
    # A collective operation that failed may leave threads that do not end.
    os._exit(0)


if __name__ == "__main__":
    main()
