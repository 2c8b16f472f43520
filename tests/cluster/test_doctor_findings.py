"""Each judgement of `doctor`, from records of nodes written by hand."""

from pathlib import Path

import pytest

from pipeline.cluster.doctor import node_findings, rate_findings
from pipeline.cluster.doctor.conversation import Answer
from pipeline.cluster.doctor.examination import decisive_packages
from pipeline.cluster.doctor.finding import CHECKS, Finding, merged, with_seconds, would_stop
from pipeline.cluster.doctor.folder_findings import folder_findings, listing_findings
from pipeline.cluster.doctor.job_findings import launch_findings, time_findings
from pipeline.cluster.doctor.rate_findings import OperatorNeed
from pipeline.cluster.doctor.silence import (
    CHECK_OF_LOOK,
    answer_findings,
    problem_findings,
    seconds_of_checks,
)
from pipeline.config.run_file import load
from pipeline.work.node_reports import DeviceRate, LinkRate, NodeReport, RateReport, empty_rates

GB = 10**9


def report(node: str = "a") -> NodeReport:
    """Return the record of a node with which nothing is wrong."""
    return {
        "node": node,
        "unix_time": 0.0,
        "python": "3.11.7",
        "packages": {"torch": "2.13.0", "xxhash": "4.1.0"},
        "code": "c0de",
        "limits": {"open files": 4096, "locked memory": None, "processes": 4096},
        "has_infiniband": False,
        "network": "Ethernet eth0 10 Gbit/s",
        "gpus": 0,
        "shared_memory_bytes": 8 * GB,
        "temporary_bytes": 8 * GB,
        "folders": {"paths.run_dir": ""},
        "listings": {},
        "free_ports": [20001],
        "has_launch_port": True,
        "compiler": "/usr/bin/c++",
        "seconds": {},
        "problems": {},
    }


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    """Return (node, verdict, what was seen) of each finding that is not ok."""
    return [(f.node, f.verdict, f.seen) for f in findings if f.verdict != "ok"]


def nodes(*names: str) -> dict[str, NodeReport]:
    return {name: report(name) for name in names}


def device(flops: float, name: str = "CPU", memory: int = 0, used: int = 0) -> DeviceRate:
    dtype = "fp32" if name == "CPU" else "bf16"
    return {
        "name": name,
        "dtype": dtype,
        "flops": flops,
        "memory_bytes": memory,
        "used_bytes": used,
    }


def link(peer: int | None, speed: float, problem: str = "") -> LinkRate:
    return {"peer": peer, "bytes_per_second": speed, "problem": problem}


def rates(
    devices: list[DeviceRate] | None = None, links: list[LinkRate] | None = None
) -> RateReport:
    made = empty_rates()
    made["backend"] = "gloo"
    made["devices"] = devices or [device(50e9)]
    made["links"] = links or []
    return made


def test_nodes_with_which_nothing_is_wrong_give_one_row_a_check() -> None:
    reports = nodes("a", "b")
    measured = {"a": rates(links=[link(1, GB)]), "b": rates(links=[link(0, GB)])}
    for name in reports:
        measured[name]["probes"] = {"paths.run_dir": ["a", "b"]}
    findings = [
        *rate_findings.link_findings(measured),
        *rate_findings.product_findings(measured),
        *rate_findings.gpu_findings(measured, reports),
        *rate_findings.operator_findings(measured, reports, []),
        *node_findings.port_findings(reports, 0),
        *folder_findings(reports, measured, {"paths.run_dir": "/run"}, frozenset()),
        *node_findings.temporary_findings(reports),
        *node_findings.memory_findings(reports),
        *node_findings.limit_findings(reports),
        *node_findings.clock_findings({"a": 0.1, "b": -0.3}),
        *node_findings.version_findings(reports, ["torch"]),
        *answer_findings({name: Answer(reports[name], "", 0.0) for name in reports}, {}),
    ]
    rows = merged(findings, ["a", "b"])
    assert told(rows) == []
    assert not would_stop(rows)
    assert {row.node for row in rows} == {"all"}
    checks = [row.check for row in rows]
    assert checks == [check for check in CHECKS if check in checks]
    assert len(checks) == len(set(checks)) == 14
    seen = {row.check: row.seen for row in rows}
    assert seen["clock"] == "at most 0.3 s from this machine's"
    assert seen["limits"] == "open files 4,096, locked memory unlimited, processes 4,096"
    assert seen["/dev/shm"] == "at least 8.0 GB free"
    assert seen["folders"] == "paths.run_dir: writable, shows what 2 nodes wrote"
    assert seen["all-reduce"] == "1 GB/s between both nodes (gloo)"


def test_alike_rows_are_joined_and_a_single_node_is_named() -> None:
    rows = [Finding("ports", node, "free") for node in ("a", "c")]
    assert [row.node for row in merged(rows, ["a", "b", "c"])] == ["a, c"]
    assert [row.node for row in merged(rows, ["a", "c"])] == ["all"]
    assert [row.node for row in merged([Finding("disk", "all", "x")], ["a"])] == ["a"]
    many = [Finding("ports", f"n{i}", "free") for i in range(20)]
    joined = merged(many, [f"n{i}" for i in range(21)])
    assert joined[0].node == "n0, n1, n2, n3, n4, n5, n6, n7 and 12 more"


def test_seconds_stand_in_the_first_row_of_a_check() -> None:
    rows = [Finding("disk", "a", "x"), Finding("disk", "b", "y"), Finding("ports", "a", "z")]
    assert [row.seconds for row in with_seconds(rows, {"disk": 2.0})] == [2.0, 0.0, 0.0]
    reports = nodes("a", "b")
    reports["a"]["seconds"] = {"write paths.run_dir": 1.0, "list paths.data_dir": 2.0}
    reports["b"]["seconds"] = {"write paths.run_dir": 1.5}
    measured = rates()
    measured["seconds"] = {"see paths.run_dir": 2.0, "matmul": 4.0}
    took = seconds_of_checks(reports, {"b": measured})
    assert took == {"folders": 3.5, "matmul": 4.0}
    assert set(CHECK_OF_LOOK.values()) <= set(CHECKS)


def test_a_silent_node_is_named_with_its_last_message() -> None:
    ended = "ended with exit code 255: ssh: connect to host b port 22: No route to host"
    answers = {"a": Answer(report(), "", 0.0), "b": Answer[NodeReport](None, ended, 0.0)}
    measured = {"a": Answer[RateReport](None, "no answer within 230 s", 0.0)}
    assert told(answer_findings(answers, measured)) == [
        ("b", "stops", ended),
        ("a", "stops", "while measuring: no answer within 230 s"),
    ]


def test_a_look_that_hangs_is_named() -> None:
    reports = nodes("a")
    reports["a"]["problems"] = {"write paths.run_dir": "no answer within 20 s"}
    measured = rates()
    measured["problems"] = {"rates": "did not end within 200 s"}
    (folder, product) = problem_findings(reports, {"a": measured})
    assert (folder.check, folder.seen) == (
        "folders",
        "write paths.run_dir: no answer within 20 s",
    )
    assert (product.check, product.verdict) == ("matmul", "stops")


def test_another_python_is_named_against_most_nodes() -> None:
    reports = nodes("a", "b", "c")
    reports["a"]["python"] = "3.12.1"
    findings = node_findings.version_findings(reports, ["torch"])
    assert told(findings) == [("a", "stops", "3.12.1, elsewhere 3.11.7")]


@pytest.mark.parametrize(
    ("package", "version", "verdict", "seen"),
    [
        ("torch", "2.12.0", "stops", "torch 2.12.0 (elsewhere 2.13.0)"),
        ("xxhash", "3.0", "warning", "xxhash 3.0 (elsewhere 4.1.0)"),
        ("extra", "1.0", "warning", "extra 1.0 (elsewhere missing)"),
        ("torch", None, "stops", "torch missing (elsewhere 2.13.0)"),
    ],
)
def test_another_package_is_named(
    package: str, version: str | None, verdict: str, seen: str
) -> None:
    reports = nodes("a", "b", "c")
    reports["b"]["packages"].pop(package, None)
    if version is not None:
        reports["b"]["packages"][package] = version
    findings = node_findings.version_findings(reports, ["torch"])
    assert told(findings) == [("b", verdict, seen)]


def test_packages_that_decide_are_named_first_and_the_rest_counted() -> None:
    reports = nodes("a", "b", "c")
    reports["b"]["packages"] = {"torch": "1"} | {f"p{i}": "1" for i in range(6)}
    ((_, verdict, seen),) = told(node_findings.version_findings(reports, ["torch"]))
    assert verdict == "stops"
    assert seen.startswith("torch 1 (elsewhere 2.13.0), p0 1 (elsewhere missing), ")
    assert seen.endswith(" and 3 more")


def test_the_stack_decides() -> None:
    assert {"torch", "deepspeed", "lm-eval", "xxhash"} <= set(decisive_packages())
    assert "pytest" not in decisive_packages()


def test_other_code_is_named() -> None:
    reports = nodes("a", "b", "c")
    reports["c"]["code"] = "other"
    findings = node_findings.version_findings(reports, [])
    assert told(findings) == [("c", "stops", "other source files of this package than elsewhere")]


def test_a_clock_that_is_wrong_is_named() -> None:
    findings = node_findings.clock_findings({"a": 0.2, "b": 61.0, "c": -3.0})
    assert told(findings) == [
        ("b", "warning", "61.0 s ahead of this machine, more than 2 s"),
        ("c", "warning", "3.0 s behind this machine, more than 2 s"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("open files", 1024, []),
        ("open files", 1023, [("a", "warning", "open files 1,023, fewer than 1,024")]),
        ("open files", 255, [("a", "stops", "open files 255, fewer than 1,024")]),
        ("processes", 300, [("a", "warning", "processes 300, fewer than 1,024")]),
        ("processes", None, []),
    ],
)
def test_limits(name: str, value: int | None, expected: list[tuple[str, str, str]]) -> None:
    reports = nodes("a")
    reports["a"]["limits"][name] = value
    assert told(node_findings.limit_findings(reports)) == expected


def test_locked_memory_matters_with_gpus_and_infiniband_on_several_nodes() -> None:
    reports = nodes("a", "b")
    for made in reports.values():
        made["limits"]["locked memory"] = 65_536
    assert told(node_findings.limit_findings(reports)) == []
    reports["b"] |= {"has_infiniband": True, "gpus": 4}
    expected = ("b", "stops", "locked memory 65.5 kB, and InfiniBand needs it unlimited")
    assert told(node_findings.limit_findings(reports)) == [expected]
    assert told(node_findings.limit_findings({"b": reports["b"]})) == []


@pytest.mark.parametrize(
    ("gpus", "free", "verdict"),
    [
        (0, 64 << 20, "ok"),
        (1, 64 << 20, "ok"),
        (2, 64 << 20, "stops"),
        (2, 65 << 20, "warning"),
        (2, 1 << 30, "ok"),
        (0, 0, "stops"),
    ],
)
def test_shared_memory(gpus: int, free: int, verdict: str) -> None:
    reports = nodes("a")
    reports["a"] |= {"gpus": gpus, "shared_memory_bytes": free}
    (finding,) = node_findings.memory_findings(reports)
    assert finding.verdict == verdict


def test_temporary_files_need_room() -> None:
    reports = nodes("a", "b")
    reports["b"]["temporary_bytes"] = GB // 2
    expected = "500.0 MB free for temporary files, less than 1.1 GB"
    assert told(node_findings.temporary_findings(reports)) == [("b", "warning", expected)]


def test_a_port_that_is_taken_is_named() -> None:
    reports = nodes("a", "b")
    reports["a"]["has_launch_port"] = False
    (finding,) = [f for f in node_findings.port_findings(reports, 29500) if f.verdict != "ok"]
    assert (finding.node, finding.seen) == (
        "a",
        "launch.master_port = 29500: another program listens on it",
    )
    assert "ss -ltnp" in finding.remedy


def test_folders_that_are_read_only_or_not_shared_are_named() -> None:
    reports = nodes("a", "b", "c")
    reports["c"]["folders"]["paths.run_dir"] = "Read-only file system"
    measured = {name: rates() for name in reports}
    for name, seen in (("a", ["a", "b"]), ("b", ["b"]), ("c", ["a", "b"])):
        measured[name]["probes"] = {"paths.run_dir": seen}
    folders = {"paths.run_dir": "/run"}
    assert told(folder_findings(reports, measured, folders, frozenset())) == [
        ("c", "stops", "paths.run_dir = /run: not writable (Read-only file system)"),
        ("b", "stops", "paths.run_dir = /run: does not show what a wrote there"),
    ]
    first = folder_findings(reports, measured, folders, frozenset(folders))[0]
    assert first.verdict == "warning", "what is read is there already"


def test_other_files_in_a_folder_are_named() -> None:
    reports = nodes("a", "b", "c")
    for name, listing in (("a", "x"), ("b", "y"), ("c", "y")):
        reports[name]["listings"] = {"paths.data_dir": listing}
    assert told(listing_findings(reports, {"paths.data_dir": "/data"})) == [
        ("a", "stops", "paths.data_dir = /data: other files, or other sizes, than elsewhere")
    ]


def test_operators_are_compiled_or_can_be() -> None:
    needs = [OperatorNeed("cpu_adam", "2 minutes", "install a C++ compiler")]
    reports = nodes("a", "b", "c")
    reports["c"]["compiler"] = ""
    measured = {name: rates() for name in reports}
    for name, is_built in (("a", True), ("b", False), ("c", False)):
        measured[name]["operators"] = {"cpu_adam": is_built}
    findings = rate_findings.operator_findings(measured, reports, needs)
    assert told(findings) == [
        ("b", "warning", "cpu_adam is not compiled"),
        ("c", "stops", "cpu_adam is not compiled, and there is no C++ compiler"),
    ]
    assert [finding.remedy for finding in findings] == [
        "",
        "nothing: the first start compiles it, which takes about 2 minutes",
        "install a C++ compiler",
    ]


def test_a_slow_gpu_is_named_by_its_share_of_the_median_and_of_the_peak() -> None:
    def h100(tflops: float) -> DeviceRate:
        return device(tflops * 1e12, "NVIDIA H100 80GB HBM3", memory=80 * GB)

    measured = {"a": rates([h100(700), h100(690)]), "b": rates([h100(710), h100(497)])}
    slow, *rest = rate_findings.product_findings(measured)
    assert (slow.node, slow.verdict) == ("b", "warning")
    assert slow.seen == (
        "slow: GPU 1 497 TFLOP/s bf16, 71% of the median 700 TFLOP/s; below 80% is slow"
    )
    assert {finding.node for finding in rest} == {"a"}
    assert rest[0].seen == (
        "median 700 TFLOP/s bf16 a GPU, 71% of h100-sxm's 989 TFLOP/s on paper; lowest 497 TFLOP/s"
    )
    # All alike, and all far below the table.
    throttled = {name: rates([h100(400)]) for name in ("a", "b")}
    findings = rate_findings.product_findings(throttled)
    assert {finding.verdict for finding in findings} == {"warning"}
    assert "40% of h100-sxm's 989 TFLOP/s on paper; at least 50% expected" in findings[0].seen


def test_the_slower_of_two_nodes_is_named() -> None:
    measured = {"a": rates([device(50e9)]), "b": rates([device(24e9)])}
    assert told(rate_findings.product_findings(measured)) == [
        (
            "b",
            "warning",
            "slow: CPU cores 24 GFLOP/s fp32, 48% of the median 50 GFLOP/s; below 50% is slow",
        )
    ]
    measured["b"] = rates([device(25e9)])
    assert told(rate_findings.product_findings(measured)) == [], "50 % is not below 50 %"


def test_gpus_that_differ_that_torch_cannot_use_or_others_use_are_named() -> None:
    h100 = device(7e14, "NVIDIA H100", memory=80 * GB)
    a100 = device(2.5e14, "NVIDIA A100", memory=40 * GB, used=3 * GB)
    reports = nodes("a", "b", "c", "d")
    for made in reports.values():
        made["gpus"] = 2
    measured = {
        "a": rates([h100, h100]),
        "b": rates([h100, h100]),
        "c": rates([a100]),
        "d": rates(),
    }
    assert told(rate_findings.gpu_findings(measured, reports)) == [
        ("c", "warning", "1 x NVIDIA A100, 40.0 GB; elsewhere 2 x NVIDIA H100, 80.0 GB"),
        ("c", "warning", "memory in use by others: GPU 0: 3.0 GB"),
        ("d", "stops", "nvidia-smi shows 2 GPUs, and torch can use none"),
    ]


def test_a_slow_link_names_its_node_and_not_the_neighbours() -> None:
    # A ring of four: both links of c are slow, so b and d have one slow and one fast link.
    measured = {
        "a": rates(links=[link(1, 10 * GB), link(3, 10 * GB), link(None, 2 * GB)]),
        "b": rates(links=[link(0, 10 * GB), link(2, 1 * GB), link(None, 2 * GB)]),
        "c": rates(links=[link(3, 1 * GB), link(1, 1 * GB), link(None, 2 * GB)]),
        "d": rates(links=[link(2, 1 * GB), link(0, 10 * GB), link(None, 2 * GB)]),
    }
    findings = rate_findings.link_findings(measured)
    assert told(findings) == [
        (
            "c",
            "warning",
            "slow: 1 GB/s with its best neighbour, 10% of the median 10 GB/s; below 50% is slow",
        )
    ]
    assert findings[-1].seen == (
        "10 GB/s between two nodes (gloo), median of 4; 2 GB/s among all 4"
    )


def test_with_nccl_a_link_is_slow_sooner() -> None:
    measured = {
        "a": rates(links=[link(1, 10 * GB), link(2, 7 * GB)]),
        "b": rates(links=[link(0, 10 * GB), link(2, 7 * GB)]),
        "c": rates(links=[link(1, 7 * GB), link(0, 7 * GB)]),
    }
    assert told(rate_findings.link_findings(measured)) == []
    for made in measured.values():
        made["backend"] = "nccl"
    ((node, _, seen),) = told(rate_findings.link_findings(measured))
    assert node == "c"
    assert seen.endswith("70% of the median 10 GB/s; below 80% is slow")


def test_a_node_without_a_link_is_named_and_not_its_neighbours() -> None:
    cut = "The client socket has timed out"
    measured = {
        "a": rates(links=[link(1, 10 * GB), link(2, 0, cut), link(None, 0, cut)]),
        "b": rates(links=[link(0, 10 * GB), link(2, 0, cut), link(None, 0, cut)]),
        "c": rates(links=[link(1, 0, cut), link(0, 0, cut), link(None, 0, cut)]),
    }
    assert told(rate_findings.link_findings(measured)) == [
        ("c", "stops", f"no all-reduce with b: {cut}"),
        ("c", "stops", f"no all-reduce with a: {cut}"),
    ]
    whole = {
        "a": rates(links=[link(1, GB), link(None, 0, cut)]),
        "b": rates(links=[link(0, GB)]),
        "c": rates(links=[link(0, GB)]),
    }
    assert told(rate_findings.link_findings(whole)) == [
        ("a", "stops", f"no all-reduce among all nodes: {cut}")
    ]


def test_a_network_far_below_the_table_is_named() -> None:
    h100 = device(7e14, "NVIDIA H100 80GB HBM3", memory=80 * GB)
    measured = {
        "a": rates([h100], [link(1, 5 * GB)]),
        "b": rates([h100], [link(0, 5 * GB)]),
    }
    findings = rate_findings.link_findings(measured)
    assert {finding.verdict for finding in findings} == {"warning"}
    assert findings[0].seen == (
        "5 GB/s between both nodes (gloo), 10% of a h100-sxm's 50 GB/s on paper; "
        "at least 30% expected"
    )


@pytest.mark.parametrize(
    ("left", "verdict", "seen"),
    [
        (7200.0, "ok", "2 h 00 min left"),
        (599.0, "warning", "9 min 59 s left, less than 10 min 00 s"),
        (30.0, "stops", "30.0 s left"),
        (-5.0, "stops", "0.0 s left"),
    ],
)
def test_the_time_left_in_a_job(
    monkeypatch: pytest.MonkeyPatch, left: float, verdict: str, seen: str
) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(1000.0 + left))
    (finding,) = time_findings(None, 1000.0)
    assert (finding.verdict, finding.seen) == (verdict, seen)


def test_the_run_files_limit_counts(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    (finding,) = time_findings(load(run_file, ["launch.time_limit=5"]), 1000.0)
    assert finding.verdict == "warning"
    assert time_findings(None, 1000.0) == [Finding("time limit", "all", "none")]


def test_what_training_would_refuse_is_a_finding(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    (finding,) = launch_findings(load(run_file))
    assert (finding.verdict, finding.seen) == ("ok", "2 CPU ranks")
    (finding,) = launch_findings(load(run_file, ["launch.kind=hostfile"]))
    assert finding.verdict == "stops"
    assert "needs launch.hostfile" in finding.seen
    # 4 sequences a batch in micro-batches of 2: neither for 3 ranks that the run file names ...
    (finding,) = launch_findings(load(run_file, ["launch.ranks=3"]))
    assert finding.verdict == "stops"
    assert finding.seen.startswith(
        "launch.ranks = 3 x batch.micro_batch_sequences = 2: must divide the 4 sequences"
    )
    # ... nor for 4.
    (finding,) = launch_findings(load(run_file, ["launch.ranks=4"]))
    assert finding.verdict == "stops"


def test_a_node_with_other_links_is_named() -> None:
    reports = nodes("a", "b", "c")
    assert told(node_findings.network_findings(reports)) == []
    reports["c"]["network"] = "Ethernet eth0 1 Gbit/s"
    seen = "Ethernet eth0 1 Gbit/s; elsewhere Ethernet eth0 10 Gbit/s"
    assert told(node_findings.network_findings(reports)) == [("c", "warning", seen)]
