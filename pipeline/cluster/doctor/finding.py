"""A finding of `doctor`: one row of its table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import first_of

ALL = "all"
"""In place of a node: the finding holds for all of them."""
NAMED_NODES = 8
"""Nodes that one row names at most."""
CHECKS = (
    "answer",
    "launch",
    "settings",
    "model",
    "time limit",
    "Python",
    "packages",
    "code",
    "clock",
    "limits",
    "/dev/shm",
    "disk",
    "folders",
    "ports",
    "network",
    "operators",
    "GPUs",
    "matmul",
    "all-reduce",
)
"""The checks in the order of the table: what costs nothing first, what needs torch last."""
Verdict = Literal["ok", "warning", "stops"]
"""`warning`: the run works, but slower, or not in every case. `stops`: it would end or not start."""


@dataclass(frozen=True)
class Finding:
    """What one check found on one node, or on several alike."""

    check: str
    """Name of the check."""
    node: str
    """The node, several, or `all`."""
    seen: str
    """What was seen, with its unit and, where there is one, the threshold."""
    verdict: Verdict = "ok"
    remedy: str = ""
    """What to do, in plain words; empty where nothing has to be done."""
    seconds: float = 0.0
    """Seconds that the check took, on the slowest node."""


def merged(findings: Iterable[Finding], nodes: Sequence[str]) -> list[Finding]:
    """Sort findings by check, and join those that differ only in their node.

    One on all nodes names `all`; a single node is named.
    """
    places: dict[Finding, list[str]] = {}
    for finding in sorted(findings, key=lambda finding: CHECKS.index(finding.check)):
        places.setdefault(replace(finding, node=""), []).append(finding.node)
    return [replace(finding, node=_names(found, nodes)) for finding, found in places.items()]


def _names(found: Sequence[str], nodes: Sequence[str]) -> str:
    if len(nodes) == 1:
        return nodes[0]
    if ALL in found or set(found) == set(nodes):
        return ALL
    return first_of(found, NAMED_NODES)


def with_seconds(findings: Iterable[Finding], seconds: Mapping[str, float]) -> list[Finding]:
    """Return findings with the seconds of their checks, which stand once: in a check's first row."""
    left = dict(seconds)
    return [
        replace(finding, seconds=finding.seconds or left.pop(finding.check, 0.0))
        for finding in findings
    ]


def would_stop(findings: Iterable[Finding]) -> bool:
    """Tell whether a finding would stop the run."""
    return any(finding.verdict == "stops" for finding in findings)
