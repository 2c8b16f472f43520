"""Look at every node of a job, and judge what was seen: all that `pipeline doctor` does.

Starts a program on each node, and writes and removes probe files in the folders of the run.
"""

import importlib.metadata
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cluster.doctor import node_findings, rate_findings
from pipeline.cluster.doctor.conversation import Answer, Nodes
from pipeline.cluster.doctor.finding import Finding, merged, with_seconds
from pipeline.cluster.doctor.folder_findings import (
    folder_findings,
    listing_findings,
    nodes_that_wrote,
)
from pipeline.cluster.doctor.job_findings import time_findings
from pipeline.cluster.doctor.node_program import RATES_SECONDS
from pipeline.cluster.doctor.rate_findings import OperatorNeed
from pipeline.cluster.doctor.silence import answer_findings, problem_findings, seconds_of_checks
from pipeline.cluster.launch import LaunchKind, launch_kind
from pipeline.config.kinds import LAUNCH_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.store.environment import LIBRARIES
from pipeline.store.layout import data_folder, doctor_probe
from pipeline.work.node_reports import NodeQuestion, NodeReport, RateQuestion, RateReport

LOOK_SECONDS = 120.0
"""Time for all nodes to be reached, to start Python and to look."""
MEASURE_SECONDS = RATES_SECONDS + 30
"""Time for all nodes to look at the others' probe files and to measure."""


@dataclass(frozen=True)
class Needs:
    """What a run needs of its nodes, where there is a run."""

    config: RunConfig | None = None
    operators: Sequence[OperatorNeed] = ()
    """DeepSpeed operators that its ranks load."""
    findings: Sequence[Finding] = ()
    """What was found out here about the run as a whole."""
    folders: Mapping[str, str] = field(default_factory=dict[str, str])
    """Setting -> existing folder in which the run makes or fills its own."""


def kind_to_look_at(config: RunConfig | None) -> LaunchKind:
    """Return the launch kind whose nodes are looked at.

    That of the run file; inside a Slurm allocation `slurm` in place of `local`. One task of an srun
    step looks at its own machine.
    """
    name = "local"
    if config is not None:
        name = config.launch.kind
    is_step = "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ
    if name == "local" and "SLURM_JOB_ID" in os.environ and not is_step:
        name = "slurm"
    if config is not None and name == config.launch.kind:
        return launch_kind(config)
    return LAUNCH_KINDS[name]


def examine(needs: Needs, tick: Callable[[], None]) -> list[Finding]:
    """Return what was found on all nodes, check by check. `tick` is called while it waits.

    Raises UserError where it is not known which nodes there are, or their launcher is missing.
    """
    kind = kind_to_look_at(needs.config)
    addresses = kind.nodes(needs.config)
    questions = _questions(needs, list(addresses))
    try:
        with Nodes(kind, questions) as nodes:
            began = time.monotonic()
            answers = nodes.answers(list(addresses), NodeReport, LOOK_SECONDS, tick)
            look_seconds = time.monotonic() - began
            reports = {node: answer.content for node, answer in answers.items() if answer.content}
            asked = _rate_questions(needs, addresses, reports)
            for node, question in asked.items():
                nodes.ask(node, question)
            measured = nodes.answers(list(reports), RateReport, MEASURE_SECONDS, tick)
    finally:
        _remove_probes(questions)
    answers_seconds = {"answer": look_seconds}
    return _judged(needs, answers, measured, answers_seconds)


def _questions(needs: Needs, nodes: Sequence[str]) -> dict[str, NodeQuestion]:
    """Return the first question to each node."""
    token = secrets.token_hex(4)
    compared: dict[str, str] = {}
    port = 0
    if needs.config is not None:
        port = needs.config.launch.master_port
        compared["paths.data_dir"] = str(needs.config.paths.data_dir)
    questions: dict[str, NodeQuestion] = {}
    for node in nodes:
        # The ranks meet on the first node.
        launch_port = 0
        if node == nodes[0]:
            launch_port = port
        questions[node] = {
            "node": node,
            "token": token,
            "folders": dict(needs.folders),
            "compared_folders": compared,
            "launch_port": launch_port,
        }
    return questions


def _rate_questions(
    needs: Needs, addresses: Mapping[str, str], reports: Mapping[str, NodeReport]
) -> dict[str, RateQuestion]:
    """Return the second question to each node that has answered the first one."""
    names = list(reports)
    writers = {setting: nodes_that_wrote(reports, setting) for setting in needs.folders}
    return {
        node: {
            "number": number,
            "writers": writers,
            "addresses": [addresses[name] for name in names],
            "ports": [reports[name]["free_ports"] for name in names],
            "operators": [need.name for need in needs.operators],
        }
        for number, node in enumerate(names)
    }


def _judged(
    needs: Needs,
    answers: Mapping[str, Answer[NodeReport]],
    measured: Mapping[str, Answer[RateReport]],
    seconds: Mapping[str, float],
) -> list[Finding]:
    """Return the findings from all answers, in the order of the table."""
    config = needs.config
    reports = {node: answer.content for node, answer in answers.items() if answer.content}
    rates = {node: answer.content for node, answer in measured.items() if answer.content}
    # A node sends its report at once, so its clock then is the time of arrival, but for the way.
    offsets = {
        node: report["unix_time"] - answers[node].received for node, report in reports.items()
    }
    launch_port = 0
    compared: dict[str, str] = {}
    read_only_folders: frozenset[str] = frozenset()
    if config is not None:
        launch_port = config.launch.master_port
        compared = {"paths.data_dir": str(config.paths.data_dir)}
        if data_folder(config).tokens_manifest.exists():
            read_only_folders = frozenset({"paths.data_dir"})
    findings = [
        *answer_findings(answers, measured),
        *needs.findings,
        *time_findings(config, time.time()),
        *node_findings.version_findings(reports, decisive_packages()),
        *node_findings.clock_findings(offsets),
        *node_findings.limit_findings(reports),
        *node_findings.memory_findings(reports),
        *node_findings.temporary_findings(reports),
        *folder_findings(reports, rates, needs.folders, read_only_folders),
        *listing_findings(reports, compared),
        *node_findings.port_findings(reports, launch_port),
        *node_findings.network_findings(reports),
        *rate_findings.operator_findings(rates, reports, needs.operators),
        *rate_findings.gpu_findings(rates, reports),
        *rate_findings.product_findings(rates),
        *rate_findings.link_findings(rates),
        *problem_findings(reports, rates),
    ]
    took = {**seconds_of_checks(reports, rates), **seconds}
    return with_seconds(merged(findings, list(answers)), took)


def decisive_packages() -> list[str]:
    """Return the packages of which all nodes must have the same version: those of the stack.

    They are the declared dependencies of this package, and NVIDIA's libraries, which torch brings.
    """
    declared: list[str] = []
    with suppress(importlib.metadata.PackageNotFoundError):
        declared = importlib.metadata.requires("pipeline") or []
    names = [re.split(r"[^\w.-]", line)[0] for line in declared if "extra ==" not in line]
    nvidia = [
        distribution.metadata["Name"]
        for distribution in importlib.metadata.distributions()
        if str(distribution.metadata["Name"]).startswith("nvidia-")
    ]
    return sorted({name.lower().replace("_", "-") for name in (*names, *LIBRARIES, *nvidia)})


def _remove_probes(questions: Mapping[str, NodeQuestion]) -> None:
    """Remove the probe files of nodes that died before they could do so."""
    for node, question in questions.items():
        for folder in question["folders"].values():
            with suppress(OSError):
                doctor_probe(Path(folder), question["token"], node).unlink()
