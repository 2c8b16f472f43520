"""`pipeline doctor` on two nodes, one of them slow and with another package version, and without
one; and in the allocation of a real Slurm."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from nodes import Nodes
from one_host_slurm import one_host_slurm
from slowed import slowed

from pipeline.cluster.doctor.node_program import RATES

pytestmark = [pytest.mark.cluster, pytest.mark.ranks]

SLOW_SHARE = 0.2


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path / "nodes", 2) as made:
        yield made


def doctor_on_nodes(nodes: Nodes, run_file: Path) -> subprocess.CompletedProcess[str]:
    """Run it on the first node, for both."""
    command = [sys.executable, "-m", "pipeline", "doctor", str(run_file), "launch.kind=hostfile"]
    command += [f"launch.hostfile={nodes.hostfile}", "--json"]
    return subprocess.run(nodes.command(1, command), capture_output=True, text=True, timeout=300)


def findings_of(ended: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    assert "Traceback" not in ended.stderr, ended.stderr
    return json.loads(ended.stdout)["findings"]


def wrong(findings: list[dict[str, str]]) -> dict[tuple[str, str], str]:
    """Return (check, node) -> what was seen, of all that is not ok."""
    return {
        (finding["check"], finding["node"]): finding["seen"]
        for finding in findings
        if finding["verdict"] != "ok"
    }


def test_a_slow_node_another_version_and_a_silent_node_are_named(
    nodes: Nodes, run_file: Path, tmp_path: Path
) -> None:
    # Another version of one package, on the second node alone.
    metadata = Path(str(distribution("xxhash").locate_file("."))) / (
        f"xxhash-{distribution('xxhash').version}.dist-info"
    )
    other = tmp_path / "other"
    shutil.copytree(metadata, other)
    text = (other / "METADATA").read_text()
    (other / "METADATA").write_text(text.replace("\nVersion: ", "\nVersion: 9.", 1))
    subprocess.run(nodes.command(2, ["mount", "--bind", str(other), str(metadata)]), check=True)

    with slowed([nodes.first_process(2)], RATES, SLOW_SHARE):
        ended = doctor_on_nodes(nodes, run_file)
    findings = findings_of(ended)
    version = distribution("xxhash").version
    problems = wrong(findings)
    assert ended.returncode == 2
    assert problems["packages", "pipe2"] == f"xxhash 9.{version} (elsewhere {version})"
    assert "of the median" in problems["matmul", "pipe2"]
    assert "below 50% is slow" in problems["matmul", "pipe2"]
    assert ("matmul", "pipe1") not in problems
    links = [finding for finding in findings if finding["check"] == "all-reduce"]
    assert [(link["node"], link["verdict"]) for link in links] == [("all", "ok")]
    assert "between both nodes (gloo)" in links[0]["seen"]

    # The second node dies: a finding, and the first one is looked at all the same.
    nodes.kill(2)
    ended = doctor_on_nodes(nodes, run_file)
    findings = findings_of(ended)
    assert ended.returncode == 2
    assert list(wrong(findings)) == [("answer", "pipe2")]
    assert "ssh: connect to host pipe2" in wrong(findings)["answer", "pipe2"]
    assert [f["node"] for f in findings if f["check"] == "matmul"] == ["pipe1"]
    assert list(run_file.parent.glob(".doctor-*")) == []


def test_a_folder_that_is_not_shared_is_named(nodes: Nodes, run_file: Path) -> None:
    data = run_file.parent / "data"
    local = run_file.parent / "local"
    data.mkdir()
    local.mkdir()
    (local / "a file").write_text("other content")
    subprocess.run(nodes.command(2, ["mount", "--bind", str(local), str(data)]), check=True)
    ended = doctor_on_nodes(nodes, run_file)
    seen = [f["seen"] for f in findings_of(ended) if f["verdict"] == "stops"]
    assert ended.returncode == 2
    assert seen == [
        f"paths.data_dir = {data}: does not show what pipe2 wrote there",
        f"paths.data_dir = {data}: does not show what pipe1 wrote there",
        f"paths.data_dir = {data}: other files, or other sizes, than elsewhere",
    ]
    assert [*data.glob(".doctor-*"), *local.iterdir()] == [local / "a file"], "no probe is left"


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    with one_host_slurm(tmp_path / "slurm", nodes=2) as environment:
        yield {**environment, "DS_ACCELERATOR": "cpu"}


def test_all_nodes_of_a_slurm_allocation(slurm: dict[str, str], run_file: Path) -> None:
    """With the batch script's process as the one that asks, as `sbatch --wrap` starts it."""
    output = run_file.parent / "doctor.json"
    doctor = f"{sys.executable} -m pipeline doctor {run_file} launch.kind=slurm --json"
    command = ["sbatch", "--wait", "--nodes=2", "--ntasks-per-node=1", "--time=20"]
    command += [f"--output={run_file.parent}/job.out", f"--wrap={doctor} > {output}"]
    ended = subprocess.run(command, env=slurm, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, (run_file.parent / "job.out").read_text()
    findings = json.loads(output.read_text())["findings"]
    assert [f["node"] for f in findings if f["check"] == "answer"] == ["all"]
    (time_limit,) = (f for f in findings if f["check"] == "time limit")
    assert time_limit["verdict"] == "ok"
    assert "min" in time_limit["seen"]
    (launch,) = (f for f in findings if f["check"] == "launch")
    assert launch["seen"] == "2 CPU ranks"
    links = [f["seen"] for f in findings if f["check"] == "all-reduce"]
    assert "between both nodes (gloo)" in links[0]
