"""Findings from what nodes saw without torch: versions, clocks, limits, memory, ports.

Pure: every function takes the reports of the nodes that answered, by name, in their order.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from pipeline.cluster.doctor.finding import ALL, Finding, Verdict
from pipeline.errors import first_of
from pipeline.logs import human_bytes
from pipeline.work.node_reports import NodeReport

Reports = Mapping[str, NodeReport]
ValueT = TypeVar("ValueT", bound=str | int)

CLOCK_SECONDS = 2.0
"""Difference of clocks above which times of events and of starts mislead."""
GIB = 2**30
SHARED_MEMORY_BYTES = GIB
"""Free bytes of /dev/shm that several GPUs should have.

Source: NVIDIA, NCCL user guide, Troubleshooting: --shm-size=1g, where containers have less.
"""
CONTAINER_MEMORY_BYTES = 64 << 20
"""The /dev/shm of a container by default, which NCCL exhausts.

Source: Docker, `docker run --shm-size`: 64 MB if it is not set.
"""
TEMPORARY_BYTES = GIB
"""Free bytes for temporary files: compiled operators and kernels."""
LIMITS = {"open files": (1024, 256), "processes": (1024, 256)}
"""Limit of a process -> at least this number without a warning, and at least this to run at all.

1,024 open files are Linux's default. A rank holds a socket to each other rank, and its token files.
"""
NAMED_PACKAGES = 5
SAME_ENVIRONMENT = (
    "give all nodes the same environment: one folder on the shared file system, or copies of one "
    "archive; then compare `pip list` on both"
)


def version_findings(reports: Reports, decisive: Iterable[str]) -> list[Finding]:
    """Compare Python, packages and this package's code with what most nodes have.

    `decisive` names the packages of which a difference stops the run; others are a warning.
    """
    pythons = {node: report["python"] for node, report in reports.items()}
    findings = list(_differences("Python", pythons, SAME_ENVIRONMENT))
    findings += _package_findings(reports, set(decisive))
    codes = {node: report["code"] for node, report in reports.items() if report["code"]}
    common = most_common(codes.values())
    findings += [
        Finding(
            "code",
            node,
            "other source files of this package than elsewhere",
            "stops",
            "install the same version of this package on all nodes, or run it from a shared folder",
        )
        for node, code in codes.items()
        if code != common
    ]
    if len(set(codes.values())) == 1 and len(codes) > 1:
        findings.append(Finding("code", ALL, "the same source files of this package"))
    return findings


def _differences(check: str, values: Mapping[str, str], remedy: str) -> Iterable[Finding]:
    common = most_common(values.values())
    same = [node for node, value in values.items() if value == common]
    for node in same:
        yield Finding(check, node, common or "")
    for node, value in values.items():
        if value != common:
            yield Finding(check, node, f"{value}, elsewhere {common}", "stops", remedy)


def _package_findings(reports: Reports, decisive: set[str]) -> list[Finding]:
    """Compare the versions of all packages; one finding a node that differs."""
    known = {node: report["packages"] for node, report in reports.items() if report["packages"]}
    names = sorted(set[str]().union(*known.values()))
    common = {
        name: most_common([packages.get(name, "") for packages in known.values()]) for name in names
    }
    findings: list[Finding] = []
    for node, packages in known.items():
        different = [name for name in names if packages.get(name, "") != common[name]]
        if not different:
            count = f"{len(packages)} packages"
            if len(known) > 1:
                count += ", the same versions as elsewhere"
            findings.append(Finding("packages", node, count))
            continue
        # Those that the run depends on are named first.
        different.sort(key=lambda name: name not in decisive)
        texts = [
            f"{name} {packages.get(name) or 'missing'} (elsewhere {common[name] or 'missing'})"
            for name in different
        ]
        verdict: Verdict = "warning"
        if different[0] in decisive:
            verdict = "stops"
        findings.append(
            Finding("packages", node, first_of(texts, NAMED_PACKAGES), verdict, SAME_ENVIRONMENT)
        )
    return findings


def most_common(values: Iterable[str]) -> str | None:
    """Return the most frequent value, the first one of several; None of no values."""
    counts = Counter(values)
    return max(counts, key=lambda value: counts[value], default=None)


def clock_findings(offsets: Mapping[str, float]) -> list[Finding]:
    """Name nodes whose clock differs from this machine's; `offsets` in seconds, positive: ahead."""
    findings = [
        Finding(
            "clock",
            node,
            f"{abs(offset):.1f} s {_ahead_or_behind(offset)} this machine, more than "
            f"{CLOCK_SECONDS:.0f} s",
            "warning",
            "start a time service (chrony or systemd-timesyncd) on this node; until then times of "
            "events and of starts mislead",
        )
        for node, offset in offsets.items()
        if abs(offset) > CLOCK_SECONDS
    ]
    right = [abs(offset) for offset in offsets.values() if abs(offset) <= CLOCK_SECONDS]
    if right:
        seen = f"at most {max(right):.1f} s from this machine's"
        findings += [
            Finding("clock", node, seen)
            for node, offset in offsets.items()
            if abs(offset) <= CLOCK_SECONDS
        ]
    return findings


def _ahead_or_behind(offset: float) -> str:
    if offset > 0:
        return "ahead of"
    return "behind"


def limit_findings(reports: Reports) -> list[Finding]:
    """Judge the limits of a process on each node."""
    findings: list[Finding] = []
    several = len(reports) > 1
    for node, report in reports.items():
        if not report["limits"]:
            continue
        shown = ", ".join(f"{name} {_limit(name, v)}" for name, v in report["limits"].items())
        problems = _limit_problems(node, report, several)
        findings += problems
        if not problems:
            findings.append(Finding("limits", node, shown))
    return findings


def _limit_problems(node: str, report: NodeReport, several: bool) -> list[Finding]:
    # Numbers that every run needs.
    problems: list[Finding] = []
    for name, (comfortable, least) in LIMITS.items():
        value = report["limits"].get(name)
        if value is None or value >= comfortable:
            continue
        verdict: Verdict = "warning"
        if value < least:
            verdict = "stops"
        option = {"open files": "nofile", "processes": "nproc"}[name]
        problems.append(
            Finding(
                "limits",
                node,
                f"{name} {value:,}, fewer than {comfortable:,}",
                verdict,
                f"raise the limit `{option}` in /etc/security/limits.conf, or with `ulimit` in the "
                "batch script; under Slurm the limits of the submitting shell are taken",
            )
        )
    # RDMA registers memory, which counts as locked.
    locked = report["limits"].get("locked memory")
    if several and report["has_infiniband"] and report["gpus"] and locked is not None:
        problems.append(
            Finding(
                "limits",
                node,
                f"locked memory {human_bytes(locked)}, and InfiniBand needs it unlimited",
                "stops",
                "set memlock to unlimited in /etc/security/limits.conf and for slurmd or sshd; in a "
                "container `--ulimit memlock=-1`",
            )
        )
    return problems


def _limit(name: str, value: int | None) -> str:
    if value is None:
        return "unlimited"
    if name == "locked memory":
        return human_bytes(value)
    return f"{value:,}"


def network_findings(reports: Reports) -> list[Finding]:
    """Name the links of each node to others, and the nodes whose links differ from most."""
    networks = {node: report["network"] for node, report in reports.items() if report["network"]}
    common = most_common(networks.values())
    findings: list[Finding] = []
    for node, network in networks.items():
        if network == common:
            findings.append(Finding("network", node, network))
            continue
        remedy = (
            "nothing, if the fast link is the same on all; else leave the node out, as all wait for "
            "the slowest link"
        )
        seen = f"{network}; elsewhere {common}"
        findings.append(Finding("network", node, seen, "warning", remedy))
    return findings


def memory_findings(reports: Reports) -> list[Finding]:
    """Judge the free space of /dev/shm, through which processes of one node exchange data."""
    findings: list[Finding] = []
    for node, report in reports.items():
        if "/dev/shm" in report["problems"]:
            continue
        # NCCL uses it between the GPUs of a node; one GPU, and gloo, do without.
        free = report["shared_memory_bytes"]
        verdict: Verdict = "ok"
        several = report["gpus"] > 1
        if several and free < SHARED_MEMORY_BYTES:
            verdict = "warning"
        if free == 0 or (several and free <= CONTAINER_MEMORY_BYTES):
            verdict = "stops"
        if verdict == "ok":
            continue
        findings.append(
            Finding(
                "/dev/shm",
                node,
                f"{human_bytes(free)} free, less than {human_bytes(SHARED_MEMORY_BYTES)}",
                verdict,
                "remove old files there (`ls -l /dev/shm`), or give the container more: "
                "`--shm-size=1g`",
            )
        )
    return [
        *findings,
        *_least(reports, findings, "/dev/shm", lambda report: report["shared_memory_bytes"]),
    ]


def temporary_findings(reports: Reports) -> list[Finding]:
    """Judge the free space for temporary files on each node."""
    findings = [
        Finding(
            "disk",
            node,
            f"{human_bytes(report['temporary_bytes'])} free for temporary files, less than "
            f"{human_bytes(TEMPORARY_BYTES)}",
            "warning",
            "set TMPDIR to a folder on a larger disk of the node, or remove old files there",
        )
        for node, report in reports.items()
        if report["temporary_bytes"] < TEMPORARY_BYTES and "disk" not in report["problems"]
    ]
    rest = _least(reports, findings, "disk", lambda report: report["temporary_bytes"])
    return [*findings, *rest]


def _least(
    reports: Reports,
    findings: Sequence[Finding],
    check: str,
    free_bytes: Callable[[NodeReport], int],
) -> list[Finding]:
    """Return the row of the nodes without a finding: the least free space among them."""
    named = {finding.node for finding in findings}
    free = {
        node: free_bytes(report)
        for node, report in reports.items()
        if node not in named and check not in report["problems"]
    }
    if not free:
        return []
    least = min(free.values())
    what = {"disk": "free for temporary files", "/dev/shm": "free"}[check]
    seen = f"{human_bytes(least)} {what}"
    if len(free) > 1:
        seen = f"at least {seen}"
    return [Finding(check, node, seen) for node in free]


def port_findings(reports: Reports, launch_port: int) -> list[Finding]:
    """Judge the ports: `launch.master_port`, if it is not 0, and free ones to choose from."""
    findings: list[Finding] = []
    for node, report in reports.items():
        if not report["has_launch_port"]:
            findings.append(
                Finding(
                    "ports",
                    node,
                    f"launch.master_port = {launch_port}: another program listens on it",
                    "stops",
                    "end that program (`ss -ltnp` names it), set another port, or leave out "
                    "launch.master_port, so that a free one is chosen",
                )
            )
        elif "ports" not in report["problems"]:
            findings.append(Finding("ports", node, "free ones found"))
    return findings
