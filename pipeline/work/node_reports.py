"""What `pipeline doctor` asks the programs that it starts on each node, and what they answer.

Each question and each answer is one line of JSON. `cluster/doctor` asks and reads; its program on a
node looks at the machine, and `engine/node_rates.py` measures with torch. Free of torch.
"""

from typing import TypedDict


class NodeQuestion(TypedDict):
    """What a node is asked to look at."""

    node: str
    """Name of the node, as the launcher knows it."""
    token: str
    """Word that the names of this command's probe files contain."""
    folders: dict[str, str]
    """Setting -> folder that the run writes to, which every node must see."""
    compared_folders: dict[str, str]
    """Setting -> folder whose names and sizes of files must be equal on all nodes."""
    launch_port: int
    """`launch.master_port` on the node where the ranks meet; 0 elsewhere."""


class NodeReport(TypedDict):
    """What a node saw without torch. A look that failed leaves its neutral value."""

    node: str
    """As in the question."""
    unix_time: float
    """The node's clock when it sent this report, seconds of the epoch."""
    python: str
    """Version of Python."""
    packages: dict[str, str]
    """Installed package -> version."""
    code: str
    """Fingerprint of the source files of this package."""
    limits: dict[str, int | None]
    """Limit of a process (`open files`, `locked memory`, `processes`) -> value; None: unlimited."""
    has_infiniband: bool
    """Whether the node has an InfiniBand or RoCE device."""
    network: str
    """Links to other machines with their rates on paper, in words."""
    gpus: int
    """NVIDIA GPUs that a process of the user may use."""
    shared_memory_bytes: int
    """Free bytes of /dev/shm."""
    temporary_bytes: int
    """Free bytes on the disk of temporary files."""
    folders: dict[str, str]
    """Setting -> why the node cannot write into that folder; empty where it can."""
    listings: dict[str, str]
    """Setting -> fingerprint of the names and sizes of the files in a compared folder."""
    free_ports: list[int]
    """TCP ports that were free; as many as the measurement of links needs."""
    has_launch_port: bool
    """Whether `launch.master_port` is free, or was not asked for."""
    compiler: str
    """Path of the C++ compiler; empty where there is none."""
    seconds: dict[str, float]
    """Look -> seconds that it took."""
    problems: dict[str, str]
    """Look -> why it failed or did not end in time."""


class RateQuestion(TypedDict):
    """What a node is asked to look for and to measure, at the same time as all others."""

    number: int
    """Number of the node among those that answered, from 0."""
    writers: dict[str, list[str]]
    """Setting -> nodes that have written their probe file into that folder."""
    addresses: list[str]
    """Address of each node, for the others."""
    ports: list[list[int]]
    """Free TCP ports of each node: one for each round of pairs, and one for all nodes together."""
    operators: list[str]
    """DeepSpeed operators that the run needs, by name."""


class DeviceRate(TypedDict):
    """A GPU, or the CPU cores of a node, and how fast it multiplies matrices."""

    name: str
    """As the driver reports it; `CPU` for the cores."""
    dtype: str
    """Number format of the product: bf16, fp16 or fp32."""
    flops: float
    """Measured FLOP/s."""
    memory_bytes: int
    """Memory of the GPU; 0 for the cores."""
    used_bytes: int
    """Memory of the GPU that was in use before the measurement."""


class LinkRate(TypedDict):
    """An all-reduce between two nodes, or among all."""

    peer: int | None
    """Number of the other node; None for all together."""
    bytes_per_second: float
    """Bus bandwidth, 2 (K - 1) / K x bytes of the vector / seconds; 0 where it failed."""
    problem: str
    """Why it failed; empty where it did not."""


class RateReport(TypedDict):
    """What a node found when all others had answered, most of it measured with torch."""

    probes: dict[str, list[str]]
    """Setting -> nodes whose probe files it has read in that folder, with the right content."""
    operators: dict[str, bool]
    """DeepSpeed operator -> whether it has been compiled on this node."""
    backend: str
    """Library of the collective operations: nccl or gloo; empty before torch is imported."""
    devices: list[DeviceRate]
    """The GPUs of the node, or its cores."""
    links: list[LinkRate]
    """All-reduces that this node took part in."""
    seconds: dict[str, float]
    """Measurement -> seconds that it took."""
    problems: dict[str, str]
    """Measurement -> why it failed or did not end in time."""


def empty_rates() -> RateReport:
    """Return the report of a node that has measured nothing yet."""
    return {
        "probes": {},
        "operators": {},
        "backend": "",
        "devices": [],
        "links": [],
        "seconds": {},
        "problems": {},
    }


def rounds_of_pairs(nodes: int) -> list[list[tuple[int, int]]]:
    """Return rounds in which every node is in at most one pair; all pairs together form a ring.

    So each of three or more nodes has two links, and the number of rounds does not grow with them:
    2 for an even number, 3 for an odd one, 1 for two nodes.
    """
    if nodes < 2:
        return []
    if nodes == 2:
        return [[(0, 1)]]
    ring = [(number, (number + 1) % nodes) for number in range(nodes)]
    even = ring[: nodes - 1 : 2]
    odd = ring[1::2]
    # An odd ring does not divide into two rounds: its last pair would meet the first one.
    rounds = [even, odd]
    if nodes % 2:
        rounds.append([ring[-1]])
    return rounds


def ports_needed(nodes: int) -> int:
    """Return how many ports a node may have to listen on while links are measured."""
    return len(rounds_of_pairs(nodes)) + 1
