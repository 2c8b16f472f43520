"""What `doctor` sees of this machine, and its conversation with programs on nodes."""

import os
import resource
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.cluster.doctor import conversation, looks
from pipeline.cluster.doctor.conversation import Nodes
from pipeline.cluster.doctor.examination import Needs, examine, kind_to_look_at
from pipeline.cluster.doctor.finding import would_stop
from pipeline.cluster.doctor.looks import Looks
from pipeline.cluster.doctor.node_program import look_at_node
from pipeline.cluster.hostfile_launch import HostfileLaunch
from pipeline.cluster.local_launch import LocalLaunch
from pipeline.cluster.slurm_launch import SlurmLaunch
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, UserError
from pipeline.work.node_reports import NodeQuestion, NodeReport


def question(folder: Path, node: str = "a", port: int = 0) -> NodeQuestion:
    return {
        "node": node,
        "token": "t",
        "folders": {"paths.run_dir": str(folder)},
        "compared_folders": {"paths.data_dir": str(folder)},
        "launch_port": port,
    }


def test_a_look_that_does_not_end_or_fails_is_left_behind() -> None:
    run = Looks(limit=0.05)
    never = threading.Event()

    def fail() -> int:
        raise OSError("stale file handle")

    assert run.run("slow", never.wait, False) is False
    assert run.run("bad", fail, 7) == 7
    assert run.run("good", lambda: 3, 7) == 3
    assert run.problems == {"slow": "no answer within 0 s", "bad": "OSError: stale file handle"}
    assert run.seconds["slow"] >= 0.05
    never.set()


def test_the_report_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with socket.create_server(("127.0.0.1", 0)) as server:
        report = look_at_node(question(tmp_path, port=server.getsockname()[1]))
    assert report["problems"] == {}
    assert report["has_launch_port"] is False
    assert report["gpus"] == 0
    assert report["packages"]["xxhash"]
    assert report["limits"]["open files"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert len(report["free_ports"]) == 4
    assert report["folders"] == {"paths.run_dir": ""}
    assert looks.seen_probes(str(tmp_path), "t", ["a"]) == ["a"]
    looks.remove_probes(question(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_probe_files_of_nodes_that_are_not_seen_are_waited_for(tmp_path: Path) -> None:
    assert looks.write_probe(str(tmp_path), question(tmp_path, "b")) == ""
    (tmp_path / ".doctor-t-c").write_text("other content")
    assert looks.seen_probes(str(tmp_path), "t", ["a", "b", "c"], seconds=0.0) == ["b"]
    late = threading.Timer(0.2, looks.write_probe, (str(tmp_path), question(tmp_path, "a")))
    late.start()
    assert looks.seen_probes(str(tmp_path), "t", ["a", "b"], seconds=10.0) == ["a", "b"]


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert looks.write_probe(str(missing), question(missing)) == "No such file or directory"
    assert looks.listing_fingerprint(str(missing)) == ""


def test_listings_differ_by_name_and_size_but_not_by_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_text("12")
    first = looks.listing_fingerprint(str(tmp_path))
    (tmp_path / ".lease").write_text("x")
    (tmp_path / "below" / "a").write_text("34")
    assert looks.listing_fingerprint(str(tmp_path)) == first
    (tmp_path / "below" / "a").write_text("345")
    second = looks.listing_fingerprint(str(tmp_path))
    (tmp_path / "below" / "a").rename(tmp_path / "below" / "b")
    assert len({first, second, looks.listing_fingerprint(str(tmp_path))}) == 3


def test_no_compiler_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert looks.compiler_path() == ""
    (tmp_path / "c++").write_text("")
    (tmp_path / "c++").chmod(0o755)
    assert looks.compiler_path() == str(tmp_path / "c++")


def test_which_nodes_are_looked_at(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(kind_to_look_at(None), LocalLaunch)
    assert isinstance(kind_to_look_at(load(run_file)), LocalLaunch)
    hostfile = load(run_file, ["launch.kind=hostfile"])
    assert isinstance(kind_to_look_at(hostfile), HostfileLaunch)
    on_slurm = load(run_file, ["launch.kind=slurm"])
    with pytest.raises(ConfigError, match=r"is in no Slurm job .* `salloc --nodes=2 pipeline"):
        kind_to_look_at(on_slurm).nodes(on_slurm)

    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert isinstance(kind_to_look_at(None), SlurmLaunch)
    assert isinstance(kind_to_look_at(load(run_file)), SlurmLaunch)
    assert isinstance(kind_to_look_at(hostfile), HostfileLaunch)
    # A task of an srun step.
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert isinstance(kind_to_look_at(None), LocalLaunch)


def test_ssh_carries_variables_but_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth 0")
    monkeypatch.setenv("HF_TOKEN", "secret")
    *_, node, remote = HostfileLaunch().node_command("b", ["python", "-m", "x", '{"a": 1}'])
    assert node == "b"
    assert "'GLOO_SOCKET_IFNAME=eth 0'" in remote
    assert remote.endswith("""python -m x '{"a": 1}'""")
    assert "secret" not in remote


class Scripts(LocalLaunch):
    """Runs a shell script in place of each node's program."""

    def __init__(self, **scripts: str) -> None:
        self.scripts = scripts

    def node_command(self, node: str, program: Sequence[str]) -> list[str]:
        return ["sh", "-c", self.scripts[node]]


@pytest.mark.ranks
def test_nodes_that_are_silent_end_or_answer_nonsense_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "END_SECONDS", 0.1)
    kind = Scripts(
        hangs="exec sleep 60",
        ends="echo ignored; echo 'cannot log in' >&2; exit 3",
        nonsense="echo '{nonsense'; exec sleep 60",
        older="""echo '{"node": "older"}'; exec sleep 60""",
    )
    with Nodes(kind, {name: question(tmp_path, name) for name in kind.scripts}) as nodes:
        answers = nodes.answers(list(kind.scripts), NodeReport, 1.0, lambda: None)
    problems = {name: answer.problem for name, answer in answers.items()}
    assert problems["hangs"] == "no answer within 1 s"
    assert problems["ends"] == "ended with exit code 3: cannot log in"
    assert problems["nonsense"] == "an answer that is no JSON: '{nonsense\\n'"
    assert problems["older"].startswith("an answer without code, compiler, ")
    assert problems["older"].endswith("its code is another version")


class NoProgram(LocalLaunch):
    """Starts nodes with a launcher that is not installed."""

    def node_command(self, node: str, program: Sequence[str]) -> list[str]:
        return ["no-such-launcher", *program]


@pytest.mark.ranks
def test_a_launcher_that_is_not_installed_is_no_traceback(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="no-such-launcher is not installed here"),
        Nodes(NoProgram(), {"a": question(tmp_path)}),
    ):
        pass


@pytest.mark.ranks
def test_the_program_ends_when_its_input_is_closed(tmp_path: Path) -> None:
    with Nodes(LocalLaunch(), {"a": question(tmp_path)}) as nodes:
        answers = nodes.answers(["a"], NodeReport, 60.0, lambda: None)
        assert answers["a"].content is not None
        assert [path.name for path in tmp_path.iterdir()] == [".doctor-t-a"]
    assert list(tmp_path.iterdir()) == [], "its probe file is gone"


@pytest.mark.ranks
def test_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    findings = examine(Needs(folders={"paths.run_dir": str(tmp_path)}), lambda: None)
    assert not would_stop(findings)
    assert {finding.node for finding in findings} == {os.uname().nodename}
    checks = [finding.check for finding in findings]
    assert {"answer", "packages", "limits", "folders", "matmul"} <= set(checks)
    assert "all-reduce" not in checks, "there is no other node"
    assert list(tmp_path.iterdir()) == []
