"""The program of `pipeline doctor` on a node: it looks, then measures, and answers in JSON lines.

Started as `python -m` with a `NodeQuestion` as its argument. Writes a `NodeReport` to standard
output, reads a `RateQuestion` from standard input, writes a `RateReport`, and ends. It also ends,
with all that it has started, when standard input is closed: when `doctor` or the connection has
ended. Free of torch; `engine/node_rates.py` measures in a process of its own.
"""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from pipeline.cluster.doctor import looks
from pipeline.cluster.doctor.looks import Looks
from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import rank_environment
from pipeline.cluster.ports import free_port, is_occupied
from pipeline.errors import one_line
from pipeline.work.node_reports import (
    NodeQuestion,
    NodeReport,
    RateQuestion,
    RateReport,
    empty_rates,
)

RATES = "pipeline.engine.node_rates"
"""Module that measures, as `python -m`."""
RATES_SECONDS = 200.0
"""Time limit of all measurements together, with the import of torch."""
PORTS = 4
"""Free ports to report: one for each round of pairs, 3 at most, and one for all nodes together."""
ValueT = TypeVar("ValueT")


def look_at_node(question: NodeQuestion) -> NodeReport:
    """Return what this node has, and write its probe files."""
    # Folders first: the file system may need time to show a probe file elsewhere.
    run = Looks()
    folders: dict[str, str] = {}
    for setting, folder in question["folders"].items():
        write = _call(looks.write_probe, folder, question)
        folders[setting] = run.run(f"write {setting}", write, "no answer")
    listings: dict[str, str] = {}
    for setting, folder in question["compared_folders"].items():
        listings[setting] = run.run(f"list {setting}", _call(looks.listing_fingerprint, folder), "")

    no_limits: dict[str, int | None] = {}
    no_packages: dict[str, str] = {}
    no_ports: list[int] = []
    packages = run.run("packages", looks.installed_packages, no_packages)
    port = question["launch_port"]
    has_launch_port = True
    if port:
        has_launch_port = not run.run("ports", _call(is_occupied, port), False)
    return {
        "node": question["node"],
        "python": platform.python_version(),
        "packages": packages,
        "code": run.run("code", looks.code_fingerprint, ""),
        "limits": run.run("limits", looks.process_limits, no_limits),
        "has_infiniband": run.run("limits", looks.has_infiniband, False),
        "network": run.run("network", looks.network_in_words, ""),
        "gpus": run.run("GPUs", gpu_count, 0),
        "shared_memory_bytes": run.run("/dev/shm", looks.shared_memory_bytes, 0),
        "temporary_bytes": run.run("disk", looks.temporary_bytes, 0),
        "folders": folders,
        "listings": listings,
        "free_ports": run.run("ports", _free_ports, no_ports),
        "has_launch_port": has_launch_port,
        "compiler": run.run("compiler", looks.compiler_path, ""),
        "seconds": run.seconds,
        "problems": run.problems,
        # Last, so that little time passes before it is sent.
        "unix_time": time.time(),
    }


def _call(function: Callable[..., ValueT], *arguments: object) -> Callable[[], ValueT]:
    return lambda: function(*arguments)


def _free_ports() -> list[int]:
    return [free_port() for _ in range(PORTS)]


def measure_node(question: NodeQuestion, asked: RateQuestion) -> RateReport:
    """Return the probe files that this node sees, and what a process with torch measures."""
    run = Looks(looks.PROBE_SECONDS + looks.LOOK_SECONDS)
    probes: dict[str, list[str]] = {}
    unseen: list[str] = []
    for setting, folder in question["folders"].items():
        writers = asked["writers"].get(setting, [])
        see = _call(looks.seen_probes, folder, question["token"], writers)
        probes[setting] = run.run(f"see {setting}", see, unseen)
    rates = _measure_with_torch(asked)
    rates["probes"] = probes
    rates["seconds"] |= run.seconds
    rates["problems"] |= run.problems
    return rates


def _measure_with_torch(asked: RateQuestion) -> RateReport:
    """Start the process that measures, and return its last report, however it ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", RATES, json.dumps(asked)],
        env=rank_environment(gpu_count(), 1),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _started.append(process)
    problem = ""
    try:
        output, messages = process.communicate(timeout=RATES_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, messages = process.communicate()
        problem = f"did not end within {RATES_SECONDS:.0f} s"
    if process.returncode and not problem:
        last = (messages.strip().splitlines() or ["without a message"])[-1]
        problem = f"ended with exit code {process.returncode}: {one_line(Exception(last))}"

    # Each line is the whole report so far.
    lines = output.splitlines()
    report = empty_rates()
    if lines:
        report = _parsed(lines[-1], report)
    if problem:
        report["problems"]["rates"] = problem
    return report


def _parsed(line: str, neutral: RateReport) -> RateReport:
    """Return the report in a line; a process that was killed may have left half of one."""
    try:
        return json.loads(line)
    except ValueError:
        return neutral


_started: list[subprocess.Popen[str]] = []
"""The process that measures, once it runs."""


def _end_when_input_closes(question: NodeQuestion) -> None:
    """Wait until standard input is closed, then end this program and all that it has started."""
    while sys.stdin.readline():
        continue
    for process in _started:
        process.kill()
    looks.remove_probes(question)
    os._exit(1)


def main() -> None:
    """Answer the question in the argument, then the one on standard input."""
    # What libraries print goes to standard error, so that it does not mix with the answers.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(report: Mapping[str, object]) -> None:
        output.write(json.dumps(report) + "\n")
        output.flush()

    question: NodeQuestion = json.loads(sys.argv[1])
    answer(look_at_node(question))
    line = sys.stdin.readline()
    if line:
        watch = threading.Thread(target=_end_when_input_closes, args=(question,), daemon=True)
        watch.start()
        answer(measure_node(question, json.loads(line)))
    looks.remove_probes(question)
    # Not by returning: a look that hangs would keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
