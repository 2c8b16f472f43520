"""What a node measures for `doctor`: products, and all-reduces with other nodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cluster.ports import free_port
from pipeline.engine.extensions import operator_folder
from pipeline.engine.node_rates import built_operators, bus_bandwidth
from pipeline.work.node_reports import RateQuestion, RateReport


def test_bus_bandwidth_by_hand() -> None:
    # Two processes send half of the vector twice; of four, each sends a quarter six times.
    assert bus_bandwidth(2, 100, 2.0) == 50.0
    assert bus_bandwidth(4, 100, 2.0) == 75.0


def test_operators_are_looked_for_in_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (operator_folder() / "cpu_adam").mkdir(parents=True)
    assert built_operators(["cpu_adam", "async_io"]) == {"cpu_adam": True, "async_io": False}


def measure(count: int) -> list[RateReport]:
    """Return the reports of several nodes, all on this machine."""
    ports = [[free_port() for _ in range(4)] for _ in range(count)]
    processes = []
    for number in range(count):
        question: RateQuestion = {
            "number": number,
            "writers": {},
            "addresses": ["127.0.0.1"] * count,
            "ports": ports,
            "operators": [],
        }
        command = [sys.executable, "-m", "pipeline.engine.node_rates", json.dumps(question)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


@pytest.mark.ranks
def test_three_nodes_reduce_in_pairs_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    reports = measure(3)
    assert [[link["peer"] for link in report["links"]] for report in reports] == [
        [1, 2, None],
        [0, 2, None],
        [1, 0, None],
    ]
    links = [link for report in reports for link in report["links"]]
    assert [link["problem"] for link in links] == [""] * 9
    assert all(link["bytes_per_second"] > 0 for link in links)
    for report in reports:
        assert report["problems"] == {}
        assert report["backend"] == "gloo"
        assert [device["name"] for device in report["devices"]] == ["CPU"]
        assert report["devices"][0]["flops"] > 1e8


@pytest.mark.ranks
def test_a_node_whose_partner_does_not_come_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    script = (
        "import sys, torch\n"
        "from pipeline.engine.groups import Meeting, all_reduce_seconds\n"
        "from pipeline.engine.node_rates import first_line\n"
        "meeting = Meeting('127.0.0.1', int(sys.argv[1]), 1, 2, 1.0)\n"
        "try:\n    all_reduce_seconds(meeting, torch.zeros(4))\n"
        "except RuntimeError as error:\n    print('failed:', first_line(error))\n"
    )
    command = [sys.executable, "-c", script, str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("failed: ")]
    assert "127.0.0.1" in line
    assert len(line) < 320
