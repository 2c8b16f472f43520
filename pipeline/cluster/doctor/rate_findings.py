"""Findings from what nodes measured with torch: operators, GPUs, products, all-reduces.

Pure. Rates are judged against the median of all nodes and against the table of hardware
(`config/presets/hardware`). Of an even number of rates the upper median counts, so that of two nodes
the faster one is the measure.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.cluster.doctor.finding import Finding, Verdict
from pipeline.config.hardware import hardware_of_device, read_hardware
from pipeline.errors import first_of
from pipeline.logs import counted_noun, human_bytes
from pipeline.work.node_reports import DeviceRate, LinkRate, NodeReport, RateReport

SLOW_GPU_SHARE = 0.8
SLOW_CPU_SHARE = 0.5
"""Share of the median rate below which a node is slow: with synchronous training all wait for it.

On CPUs, where other programs run beside the measurement, rates of equal nodes differ by a third.
"""
PEAK_SHARE = 0.5
"""Share of the peak on paper that a large product should reach.

An H200 reached 0.68 to 0.8 of it (benchmarks/README.md); below half, clocks or power are limited.
"""
NETWORK_SHARE = 0.3
"""Share of the network's rate on paper that an all-reduce of 64 MB between two nodes should reach.

An assumption: TCP in place of RDMA stays far below it, and latency takes a part of such a vector.
"""
USED_SHARE = 0.05
"""Share of a GPU's memory that may be in use before the start; a CUDA context takes some 0.5 GB."""
DEVICE_REMEDY = (
    "leave this node out (hostfile, `--exclude`), and have its clocks, temperature and power limit "
    "looked at (`nvidia-smi -q -d PERFORMANCE,CLOCK`; on CPUs `top` for other programs, `lscpu`)"
)
LINK_REMEDY = (
    "check that NCCL and gloo use the fast network: set NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME to "
    "its interface (`ip -br addr`), look at NCCL's choice with NCCL_DEBUG=INFO, or leave this node out"
)
REACH_REMEDY = (
    "open TCP ports 20000 to 65535 between the nodes, and set GLOO_SOCKET_IFNAME and "
    "NCCL_SOCKET_IFNAME to the interface (`ip -br addr`) on which they reach each other"
)
Rates = Mapping[str, RateReport]


@dataclass(frozen=True)
class OperatorNeed:
    """A DeepSpeed operator that the run needs."""

    name: str
    usual: str
    """Time that compiling usually takes, in words."""
    remedy: str
    """What to do where it cannot be compiled."""


def operator_findings(
    rates: Rates, reports: Mapping[str, NodeReport], needs: Sequence[OperatorNeed]
) -> list[Finding]:
    """Judge whether the operators that the run needs have been compiled, or can be."""
    findings: list[Finding] = []
    for node, rate in rates.items():
        if "operators" in rate["problems"]:
            continue
        missing = [need for need in needs if not rate["operators"].get(need.name, False)]
        if not missing:
            text = "none needed"
            if needs:
                text = f"{', '.join(need.name for need in needs)} compiled"
            findings.append(Finding("operators", node, text))
        for need in missing:
            text = f"{need.name} is not compiled"
            if reports[node]["compiler"]:
                remedy = f"nothing: the first start compiles it, which takes about {need.usual}"
                findings.append(Finding("operators", node, text, "warning", remedy))
            else:
                text += ", and there is no C++ compiler"
                findings.append(Finding("operators", node, text, "stops", need.remedy))
    return findings


def gpu_findings(rates: Rates, reports: Mapping[str, NodeReport]) -> list[Finding]:
    """Judge which GPUs the nodes have, whether torch can use them, and who else does."""
    findings: list[Finding] = []
    kinds = {node: _devices_in_words(rate["devices"]) for node, rate in rates.items()}
    common = max(kinds.values(), key=list(kinds.values()).count, default="")
    for node, rate in rates.items():
        if not rate["devices"]:
            continue
        gpus = reports[node]["gpus"]
        if gpus and rate["devices"][0]["name"] == "CPU":
            text = f"nvidia-smi shows {counted_noun(gpus, 'GPU')}, and torch can use none"
            remedy = (
                "install a torch that is built for CUDA and fits the driver: `python -c 'import "
                "torch; print(torch.version.cuda)'`, `nvidia-smi`"
            )
            findings.append(Finding("GPUs", node, text, "stops", remedy))
        elif kinds[node] != common:
            text = f"{kinds[node]}; elsewhere {common}"
            remedy = "take nodes of one kind: the job runs at the pace of the slowest device"
            findings.append(Finding("GPUs", node, text, "warning", remedy))
        else:
            findings.append(Finding("GPUs", node, kinds[node]))
        findings += _used_gpus(node, rate["devices"])
    return findings


def _devices_in_words(devices: Sequence[DeviceRate]) -> str:
    """Return for example `4 x NVIDIA H100, 80 GB`."""
    names = sorted({device["name"] for device in devices})
    if names == ["CPU"]:
        return "none: ranks run on CPU cores"
    texts: list[str] = []
    for name in names:
        same = [device for device in devices if device["name"] == name]
        texts.append(f"{len(same)} x {name}, {human_bytes(same[0]['memory_bytes'])}")
    return "; ".join(texts)


def _used_gpus(node: str, devices: Sequence[DeviceRate]) -> list[Finding]:
    used = [
        f"GPU {number}: {human_bytes(device['used_bytes'])}"
        for number, device in enumerate(devices)
        if device["used_bytes"] > USED_SHARE * device["memory_bytes"]
    ]
    if not used:
        return []
    text = f"memory in use by others: {first_of(used, 4)}"
    remedy = "end the other programs on these GPUs (`nvidia-smi` names them)"
    return [Finding("GPUs", node, text, "warning", remedy)]


def product_findings(rates: Rates) -> list[Finding]:
    """Judge the rate of matrix products: against the median of alike devices, and the table."""
    findings: list[Finding] = []
    by_kind: dict[tuple[str, str], list[tuple[str, int, float]]] = {}
    for node, rate in rates.items():
        for number, device in enumerate(rate["devices"]):
            place = (node, number, device["flops"])
            by_kind.setdefault((device["name"], device["dtype"]), []).append(place)

    for (name, dtype), places in by_kind.items():
        median = statistics.median_high(flops for _, _, flops in places)
        threshold = _slow_share(is_cpu=name == "CPU")
        slow_nodes: set[str] = set()
        for node, number, flops in places:
            if flops >= threshold * median:
                continue
            slow_nodes.add(node)
            text = (
                f"slow: {_device_in_words(name, number)} {_rate_in_words(flops)} {dtype}, {flops / median:.0%} "
                f"of the median {_rate_in_words(median)}; below {threshold:.0%} is slow"
            )
            findings.append(Finding("matmul", node, text, "warning", DEVICE_REMEDY))

        # The others, and the median beside the table.
        rest = [node for node, _, _ in places if node not in slow_nodes]
        share, verdict = _share_of_peak(name, dtype, median)
        text = f"{_rate_in_words(median)} {dtype} a {_kind_in_words(name)}{share}"
        if len(places) > 1:
            text = f"median {text}; lowest {_rate_in_words(min(flops for _, _, flops in places))}"
        remedy = ""
        if verdict == "warning":
            remedy = DEVICE_REMEDY
        findings += [Finding("matmul", node, text, verdict, remedy) for node in dict.fromkeys(rest)]
    return findings


def _slow_share(is_cpu: bool) -> float:
    if is_cpu:
        return SLOW_CPU_SHARE
    return SLOW_GPU_SHARE


def _device_in_words(name: str, number: int) -> str:
    if name == "CPU":
        return "CPU cores"
    return f"GPU {number}"


def _kind_in_words(name: str) -> str:
    if name == "CPU":
        return "node's cores"
    return "GPU"


def _rate_in_words(flops: float) -> str:
    if flops < 1e12:
        return f"{flops / 1e9:.3g} GFLOP/s"
    return f"{flops / 1e12:.3g} TFLOP/s"


def _share_of_peak(name: str, dtype: str, flops: float) -> tuple[str, Verdict]:
    """Return the share of the peak on paper in words, and the verdict; neither without a table."""
    hardware = hardware_of_device(name)
    if hardware is None:
        return ", not in the table of peaks", "ok"
    peak = read_hardware(hardware).peak_flops(dtype)
    if peak is None:
        return "", "ok"
    share = flops / peak
    text = f", {share:.0%} of {hardware}'s {_rate_in_words(peak)} on paper"
    if share < PEAK_SHARE:
        return f"{text}; at least {PEAK_SHARE:.0%} expected", "warning"
    return text, "ok"


def link_findings(rates: Rates) -> list[Finding]:
    """Judge the all-reduces between nodes.

    Each of three or more nodes has two links. A node counts with the better one, so that a slow
    neighbour does not make it slow; of two nodes both have the one link.
    """
    names = list(rates)
    if len(names) < 2:
        return []
    findings = _failed_links(rates)
    best: dict[str, float] = {}
    for node, rate in rates.items():
        speeds = [link["bytes_per_second"] for link in _pairs(rate)]
        if max(speeds, default=0.0):
            best[node] = max(speeds)
    if not best:
        return findings

    # Slow nodes, then all others with the median beside the table.
    median = statistics.median_high(best.values())
    backend = next(rate["backend"] for rate in rates.values() if rate["backend"])
    threshold = _slow_share(is_cpu=backend == "gloo")
    slow = [node for node, speed in best.items() if speed < threshold * median]
    for node in slow:
        text = (
            f"slow: {_gigabytes(best[node])} with its best neighbour, {best[node] / median:.0%} of the "
            f"median {_gigabytes(median)}; below {threshold:.0%} is slow"
        )
        findings.append(Finding("all-reduce", node, text, "warning", LINK_REMEDY))
    text = f"{_gigabytes(median)} between two nodes ({backend}), median of {len(best)}"
    if len(names) == 2:
        text = f"{_gigabytes(median)} between both nodes ({backend})"
    share, verdict = _share_of_network(rates, median)
    remedy = ""
    if verdict == "warning":
        remedy = LINK_REMEDY
    text += share
    together = [
        link["bytes_per_second"]
        for rate in rates.values()
        for link in rate["links"]
        if link["peer"] is None and not link["problem"]
    ]
    if together:
        text += f"; {_gigabytes(min(together))} among all {len(names)}"
    return [
        *findings,
        *(Finding("all-reduce", node, text, verdict, remedy) for node in best if node not in slow),
    ]


def _pairs(rate: RateReport) -> list[LinkRate]:
    return [link for link in rate["links"] if link["peer"] is not None]


def _gigabytes(speed: float) -> str:
    return f"{speed / 1e9:.3g} GB/s"


def _failed_links(rates: Rates) -> list[Finding]:
    """Name nodes of which no link works, and else the pairs that failed."""
    names = list(rates)
    cut = [
        node
        for node, rate in rates.items()
        if _pairs(rate) and all(link["problem"] for link in _pairs(rate))
    ]
    findings: list[Finding] = []
    for node, rate in rates.items():
        for link in rate["links"]:
            if not link["problem"]:
                continue
            if link["peer"] is None:
                # The pairs say more, where one of them failed.
                if any(one["problem"] for other in rates.values() for one in _pairs(other)):
                    continue
                text = f"no all-reduce among all nodes: {link['problem']}"
            else:
                peer = names[link["peer"]]
                # A node without any link is the cause, not its neighbours.
                if peer in cut and node not in cut:
                    continue
                text = f"no all-reduce with {peer}: {link['problem']}"
            findings.append(Finding("all-reduce", node, text, "stops", REACH_REMEDY))
    return findings


def _share_of_network(rates: Rates, speed: float) -> tuple[str, Verdict]:
    """Return the share of the network's rate on paper in words, and the verdict."""
    devices = [device["name"] for rate in rates.values() for device in rate["devices"]]
    hardware = None
    if devices:
        hardware = hardware_of_device(devices[0])
    if hardware is None:
        return "", "ok"
    network = read_hardware(hardware).network_gb_per_second * 1e9
    text = f", {speed / network:.0%} of a {hardware}'s {_gigabytes(network)} on paper"
    if speed < NETWORK_SHARE * network:
        return f"{text}; at least {NETWORK_SHARE:.0%} expected", "warning"
    return text, "ok"
