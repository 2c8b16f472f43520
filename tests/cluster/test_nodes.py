"""Training across two nodes with pdsh and ssh, and what is done to their network, to a node and to
a rank."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from nodes import Nodes
from supervised import arguments, events, finish, processes_of, start, steps, steps_seen, wait_for

from pipeline.cluster.hostfile_launch import HostfileLaunch, environment_of_hosts, read_hostfile
from pipeline.cluster.launch import LaunchPlan
from pipeline.cluster.ranks import refuse_if_taken_over
from pipeline.config.groups import group_sizes
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, LeaseError
from pipeline.store.layout import START_ORDER
from pipeline.store.metrics import read_metrics

MakeRun = Callable[..., Path]
STALL_SECONDS = 8
STEPS = 1500
SETTINGS = [
    f"train.train_tokens={STEPS * 256}", "checkpoint.save_every_steps=20", f"train.validate_every_steps={STEPS}"
]  # fmt: skip
FAULTS = [f"guard.stall_seconds={STALL_SECONDS}", "guard.max_restarts=10"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a slots=2\na slots=1", r"line 2 \('a slots=1'\) repeats a host"),
        ("a\n", r"line 1 \('a'\) is not of the form `HOST slots=N`"),
        ("# nothing\n", "lists no host"),
    ],
)
def test_hostfiles_that_are_none_are_refused(
    run_file: Path, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_hostfile(load(run_file, [f"launch.hostfile={tmp_path / 'hosts'}"]))


def test_a_hostfile_says_how_many_ranks_are_where(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("# two nodes\nb slots=2\n\na  slots=8  # the larger\n")
    assert read_hostfile(load(run_file, [f"launch.hostfile={tmp_path / 'hosts'}"])) == {
        "b": 2,
        "a": 8,
    }


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path / "nodes", 2) as made:
        yield made


def start_on_nodes(nodes: Nodes, run_file: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start `pipeline train` on the first node."""
    command = [sys.executable, "-m", "pipeline", "train", str(run_file), "launch.kind=hostfile"]
    command += [f"launch.hostfile={nodes.hostfile}", *overrides]
    return subprocess.Popen(
        nodes.command(1, ["env", "GLOO_SOCKET_IFNAME=eth0", *command]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rank_1(run_file: Path) -> psutil.Process:
    """Return the rank on the second node, without its launcher and shells."""
    (found,) = [p for p in processes_of(run_file) if p.environ().get("RANK") == "1"]
    return found


@pytest.mark.cluster
@pytest.mark.ranks
@pytest.mark.fault("network and nodes", tried=3)
def test_link_down_node_killed_rank_stopped(make_run: MakeRun, nodes: Nodes) -> None:
    """Each is ended and gone on from within `stall_seconds` + 30 s, and the losses are those of two
    ranks on one machine."""
    run_file, seconds = make_run(), []
    job = start_on_nodes(nodes, run_file, *SETTINGS, *FAULTS)

    def faulted(fault: Callable[[], object], mend: Callable[[], object]) -> None:
        saves = len(events(run_file, "save"))
        wait_for(
            lambda: len(events(run_file, "save")) > saves or job.poll() is not None, 120, "a save"
        )
        assert job.poll() is None, job.communicate()[0]
        trained, restarted = len(events(run_file, "first step")), len(events(run_file, "restart"))
        began = time.monotonic()
        fault()
        wait_for(
            lambda: len(events(run_file, "restart")) > restarted, STALL_SECONDS + 30, "a restart"
        )
        mend()
        left = STALL_SECONDS + 30 - (time.monotonic() - began)
        wait_for(lambda: len(events(run_file, "first step")) > trained, left, "a step")
        seconds.append(time.monotonic() - began)

    faulted(lambda: nodes.set_link(2, "down"), lambda: nodes.set_link(2, "up"))
    faulted(lambda: nodes.kill(2), lambda: nodes.start(2))
    faulted(lambda: rank_1(run_file).send_signal(signal.SIGSTOP), lambda: None)
    code, output = finish(job)
    assert code == 0, output
    assert steps_seen(run_file) == list(range(1, STEPS + 1))
    wait_for(lambda: not processes_of(run_file), 30, "the end of all that is left")
    whole = make_run(name="whole")
    code, output = finish(start(whole, *SETTINGS, "launch.ranks=2"))
    assert code == 0, output
    losses = [
        [record["loss"] for record in read_metrics(run_file.parent / name)]
        for name in ("run", "whole")
    ]
    print(
        "faults: tried 3, survived 3, lost 0; seconds to the next step: "
        f"{[round(s) for s in seconds]}"
    )
    assert losses[0] == losses[1]


LONG = [
    "train.train_tokens=25600000",
    "checkpoint.save_every_steps=100",
    "train.validate_every_steps=100000",
]


def supervisor_of(run_file: Path) -> psutil.Process:
    wanted = ["-m", "pipeline", "train", str(run_file)]
    return next(p for p in psutil.process_iter(["cmdline"]) if arguments(p)[1:5] == wanted)


@pytest.mark.cluster
@pytest.mark.ranks
def test_a_stop_reaches_the_other_node(make_run: MakeRun, nodes: Nodes) -> None:
    run_file = make_run()
    job = start_on_nodes(nodes, run_file, *LONG)
    wait_for(lambda: steps(run_file) >= 5 or job.poll() is not None, 120, "steps")
    supervisor_of(run_file).send_signal(signal.SIGTERM)
    code, output = finish(job)
    assert code == 75, output
    assert f"saved at step {steps(run_file)} of" in output
    wait_for(lambda: not processes_of(run_file), 30, "the end of all ranks")


@pytest.mark.cluster
@pytest.mark.ranks
@pytest.mark.fault("network and nodes")
def test_ranks_everywhere_end_without_their_supervisor_and_the_same_command_goes_on(
    make_run: MakeRun, nodes: Nodes
) -> None:
    run_file = make_run()
    job = start_on_nodes(nodes, run_file, *LONG)
    wait_for(lambda: events(run_file, "save") or job.poll() is not None, 120, "a save")
    supervisor_of(run_file).send_signal(signal.SIGKILL)
    job.communicate(timeout=30)
    wait_for(lambda: not processes_of(run_file), 30, "the end of all ranks")
    again = start_on_nodes(nodes, run_file, *LONG)
    wait_for(lambda: events(run_file, "resume") or again.poll() is not None, 120, "a resume")
    saved = steps(run_file)
    wait_for(lambda: steps(run_file) > saved + 10 or again.poll() is not None, 60, "steps")
    supervisor_of(run_file).send_signal(signal.SIGTERM)
    code, output = finish(again)
    assert code == 75, output
    assert steps_seen(run_file) == list(range(1, steps(run_file) + 1))


def test_secrets_go_to_no_file(run_file: Path) -> None:
    values = {
        "HF_TOKEN": "hf",
        "WANDB_API_KEY": "w",
        "WANDB_MODE": "offline",
        "NCCL_DEBUG": "INFO",
        "EDITOR": "vi",
    }
    launch = LaunchPlan(HostfileLaunch(), ["deepspeed"], values, group_sizes(2), "ranks", 1)
    assert environment_of_hosts(launch, {"PIPELINE_X": 'a "b" $c'}) == (
        'NCCL_DEBUG=INFO\nPIPELINE_X=a \\"b\\" \\$c\nWANDB_MODE=offline\n'
    )


def test_who_is_not_the_present_start_ends(tmp_path: Path) -> None:
    refuse_if_taken_over(tmp_path, None)
    (tmp_path / START_ORDER).write_text('{"start": "ab", "stop": false}')
    refuse_if_taken_over(tmp_path, "ab")
    for last in ("cd", None):
        with pytest.raises(LeaseError, match="has taken the run over"):
            refuse_if_taken_over(tmp_path, last)
