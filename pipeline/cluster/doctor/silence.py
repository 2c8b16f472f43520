"""Findings about what is missing: nodes without an answer, looks that failed or did not end.

Pure. Also adds up the seconds of each check.
"""

from collections.abc import Mapping

from pipeline.cluster.doctor.conversation import Answer
from pipeline.cluster.doctor.finding import Finding
from pipeline.work.node_reports import NodeReport, RateReport

CHECK_OF_LOOK = {
    "packages": "packages",
    "code": "code",
    "limits": "limits",
    "GPUs": "GPUs",
    "/dev/shm": "/dev/shm",
    "disk": "disk",
    "write": "folders",
    "list": "folders",
    "see": "folders",
    "ports": "ports",
    "network": "network",
    "compiler": "operators",
    "operators": "operators",
    "import": "GPUs",
    "matmul": "matmul",
    "all-reduce": "all-reduce",
    "rates": "matmul",
}
"""First word of a look or measurement -> the check that it belongs to."""
SILENT_REMEDY = (
    "log in to the node by hand (ssh, or `srun --nodelist`), and see that it runs, that its file "
    "systems answer and that this Python starts there; or leave it out (hostfile, `--exclude`)"
)
PROBLEM_REMEDY = (
    "repeat this step on the node by hand; where a folder does not answer, its file system hangs "
    "(`df PATH`), and the run would hang there, too"
)


def answer_findings(
    answers: Mapping[str, Answer[NodeReport]], measured: Mapping[str, Answer[RateReport]]
) -> list[Finding]:
    """Name the nodes that have not answered, and those that fell silent while they measured."""
    silent = {node: answer.problem for node, answer in answers.items() if answer.content is None}
    findings = [
        Finding("answer", node, problem, "stops", SILENT_REMEDY) for node, problem in silent.items()
    ]
    findings += [
        Finding("answer", node, f"while measuring: {answer.problem}", "stops", SILENT_REMEDY)
        for node, answer in measured.items()
        if answer.content is None
    ]
    findings += [
        Finding("answer", node, "answers")
        for node in answers
        if not any(finding.node == node for finding in findings)
    ]
    return findings


def problem_findings(
    reports: Mapping[str, NodeReport], rates: Mapping[str, RateReport]
) -> list[Finding]:
    """Name each look or measurement that failed or did not end in time."""
    findings: list[Finding] = []
    for node in reports:
        problems = dict(reports[node]["problems"])
        if node in rates:
            problems |= rates[node]["problems"]
        findings += [
            Finding(
                CHECK_OF_LOOK[look.partition(" ")[0]],
                node,
                f"{look}: {problem}",
                "stops",
                PROBLEM_REMEDY,
            )
            for look, problem in problems.items()
        ]
    return findings


def seconds_of_checks(
    reports: Mapping[str, NodeReport], rates: Mapping[str, RateReport]
) -> dict[str, float]:
    """Return check -> the seconds that it took on the node where it took longest."""
    slowest: dict[str, float] = {}
    for node, report in reports.items():
        looks = list(report["seconds"].items())
        if node in rates:
            looks += rates[node]["seconds"].items()
        sums: dict[str, float] = {}
        for look, seconds in looks:
            check = CHECK_OF_LOOK[look.partition(" ")[0]]
            sums[check] = sums.get(check, 0.0) + seconds
        for check, seconds in sums.items():
            slowest[check] = max(slowest.get(check, 0.0), seconds)
    return slowest
