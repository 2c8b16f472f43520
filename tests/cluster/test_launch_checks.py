"""What cannot be started from here is refused before any stage: ports, batches of an allocation,
number formats."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.cluster import launch_checks, supervisor
from pipeline.cluster.doctor.examination import kind_to_look_at
from pipeline.cluster.launch import LaunchPlan, launch_kind
from pipeline.cluster.launch_checks import check_device, check_launch
from pipeline.cluster.stop_request import StopRequest
from pipeline.cluster.supervisor import TrainingJob
from pipeline.cluster.time_limit import TimeLimit
from pipeline.cluster.warm.forkable_ranks import ForkableRanks
from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.engine import device_check
from pipeline.errors import ConfigError, UserError
from pipeline.store.events import read_events
from pipeline.store.files import write_json
from pipeline.work import separate_checks


def planned(ranks: int, hosts: tuple[str, ...] = ()) -> Callable[[RunConfig, Path], LaunchPlan]:
    return lambda config, run_file: LaunchPlan(
        launch_kind(config), [], {}, group_sizes(ranks), "ranks", 1, hosts
    )


def test_a_batch_that_the_ranks_of_an_allocation_do_not_divide_is_refused(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(run_file, ["launch.kind=slurm"])  # batches of 4 sequences, 2 at a time
    for ranks, refused in ((1, False), (2, False), (3, True)):
        monkeypatch.setattr(launch_checks, "plan_launch", planned(ranks))
        if not refused:
            check_launch(config)
            continue
        with pytest.raises(
            ConfigError, match=r"batch\.global_batch_tokens = 32: .*3 ranks x .*; set 48 or 96, or"
        ):
            check_launch(config)


@pytest.mark.parametrize(
    ("kind", "environment", "hosts", "is_here"),
    [
        ("local", {}, (), True),
        ("slurm", {"SLURMD_NODENAME": "n1", "SLURM_NODEID": "0"}, (), True),
        (
            "slurm",
            {"SLURM_NODEID": "0"},
            (),
            False,
        ),  # an interactive allocation, called from the login node
        ("hostfile", {}, ("localhost", "b"), True),
        ("hostfile", {}, ("elsewhere.example", "b"), False),
    ],
)
def test_the_port_is_looked_at_where_the_ranks_meet(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, kind: str, environment: dict[str, str],
    hosts: tuple[str, ...], is_here: bool,
) -> None:  # fmt: skip
    for name in ("SLURMD_NODENAME", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch_checks, "plan_launch", planned(2, hosts))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = load(run_file, [f"launch.kind={kind}", f"launch.master_port={port}"])
        if not is_here:
            check_launch(config)
            return
        with pytest.raises(ConfigError, match=rf"launch\.master_port = {port}"):
            check_launch(config)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("program", "said"), [(None, "no scontrol"), ("echo node down >&2; exit 1", "node down")]
)
def test_an_allocation_that_scontrol_does_not_tell_of_is_no_traceback(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, said: str
) -> None:
    monkeypatch.setenv("PATH", str(run_file.parent))
    if program is not None:
        (run_file.parent / "scontrol").write_text(f"#!/bin/sh\n{program}\n")
        (run_file.parent / "scontrol").chmod(0o755)
    for name, value in (("SLURM_JOB_ID", "1"), ("SLURM_JOB_NODELIST", "n1"), ("SLURM_NTASKS", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    with pytest.raises(UserError, match=said):
        check_launch(load(run_file, ["launch.kind=slurm"]))


def test_a_job_number_without_nodes_is_no_traceback(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    for name in ("SLURM_JOB_NODELIST", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    message = r"SLURM_JOB_ID is set, but SLURM_JOB_NODELIST is not, so the nodes of the job are not"
    with pytest.raises(ConfigError, match=message):
        kind_to_look_at(None).nodes(None)
    with pytest.raises(ConfigError, match=message):
        check_launch(load(run_file, ["launch.kind=slurm"]))


def test_number_formats_are_asked_of_the_machine_only_where_it_may_lack_them(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(module: str, configs: Sequence[RunConfig]) -> list[dict[str, object]]:
        asked.extend(config.precision.dtype for config in configs)
        return [{"problems": [], "facts": {}}]

    monkeypatch.setattr(separate_checks, "_ask", ask)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for dtype in ("fp32", "bf16", "fp16", "fp16"):
        check_device(load(run_file, [f"precision.dtype={dtype}"]))
    assert asked == ["fp16"], "on a CPU; once"
    check_device(load(run_file, ["precision.dtype=fp16", "launch.kind=slurm"]))
    assert asked == ["fp16"], "the nodes' devices are not this machine's"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    check_device(load(run_file, ["precision.dtype=bf16"]))
    assert asked == ["fp16", "bf16"]


def test_a_number_format_that_the_cpu_lacks_is_refused(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    for has_fp16 in (True, False):
        monkeypatch.setattr(device_check, "cpu_has_fp16", lambda has_fp16=has_fp16: has_fp16)
        assert device_check.check_precision(load(run_file)) == {}
        if has_fp16:
            device_check.check_precision(load(run_file, ["precision.dtype=fp16"]))
            continue
        with pytest.raises(ConfigError, match=r"precision\.dtype = fp16"):
            device_check.check_precision(load(run_file, ["precision.dtype=fp16"]))


def test_what_a_rank_refuses_is_not_started_again(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(run_file)
    run_dir = config.paths.run_dir
    starts = []

    def start_once(*_: object) -> tuple[None, int]:
        starts.append(1)
        write_json(run_dir / "outcome.json", {"status": "refused", "message": "no"})
        return None, 2

    monkeypatch.setattr(supervisor, "_start_once", start_once)
    limit = TimeLimit(config, 0.0)
    job = TrainingJob(
        config, run_dir / "config.yaml", StopRequest(), limit, ForkableRanks(config), 0.0
    )
    supervisor._run_to_an_outcome(job)
    assert (len(starts), read_events(run_dir, "restart")) == (1, [])
