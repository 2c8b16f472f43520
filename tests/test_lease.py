"""One job at a time: who is refused, whose lease is taken over, and when it is given back."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import lease
from pipeline.errors import LeaseError
from pipeline.lease import LEASE, STALE_SECONDS, Lease
from pipeline.logs import note

HOLDER = """
import sys, time, pathlib
from pipeline.lease import Lease
with Lease(pathlib.Path(sys.argv[1]), "pipeline train"):
    print("held", flush=True)
    time.sleep(600)
"""


def start_holder(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def foreign_lease(folder: Path, age: float) -> Path:
    """Write what a job on another host left, last refreshed `age` seconds ago."""
    path = folder / LEASE
    path.write_text(json.dumps({"host": "node17", "boot": "b", "pid": 1, "job": "4242", "purpose": "pipeline train"}))
    stamp = path.stat().st_mtime - age
    os.utime(path, (stamp, stamp))
    return path


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        with pytest.raises(LeaseError) as error, Lease(tmp_path, "pipeline export"):
            pass
    finally:
        holder.kill()
        holder.wait()
    message = str(error.value)
    assert message.startswith(
        f"{tmp_path} is in use by `pipeline train`: process {holder.pid} on {socket.gethostname()}, last sign of life "
    )
    assert message.endswith("another folder (paths.run_dir, paths.data_dir).")
    assert error.value.exit_code == 2


def test_the_same_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with Lease(tmp_path, "first"), pytest.raises(LeaseError, match="in use by `first`"), Lease(tmp_path, "second"):
        pass
    assert leftovers(tmp_path) == []


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert leftovers(tmp_path) == [LEASE]
    with Lease(tmp_path, "pipeline train"):
        assert json.loads((tmp_path / LEASE).read_text())["pid"] == os.getpid()
    assert leftovers(tmp_path) == []


def test_a_process_that_got_the_number_of_the_dead_holder_is_not_the_holder(tmp_path: Path) -> None:
    with Lease(tmp_path, "old"):
        text = (tmp_path / LEASE).read_text()
    holder = json.loads(text) | {"started": "1"}  # this process's number, of a process started at boot
    (tmp_path / LEASE).write_text(json.dumps(holder))
    with Lease(tmp_path, "new"):
        assert json.loads((tmp_path / LEASE).read_text())["purpose"] == "new"


def test_another_hosts_lease_holds_while_its_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STALE_SECONDS", 10**6)
    foreign_lease(tmp_path, 9 * 10**5)
    with pytest.raises(LeaseError, match=r"process 1 on node17, Slurm job 4242, last sign of life 90\d{4} s ago"):
        Lease(tmp_path, "x").__enter__()
    assert leftovers(tmp_path) == [LEASE]
    foreign_lease(tmp_path, 10**6 + 5)
    with Lease(tmp_path, "x"):
        assert json.loads((tmp_path / LEASE).read_text())["purpose"] == "x"
    assert leftovers(tmp_path) == []


def test_an_empty_lease_is_respected_until_it_is_stale(tmp_path: Path) -> None:
    path = foreign_lease(tmp_path, 0)
    path.write_text("")
    with pytest.raises(LeaseError, match="in use by `another command`"):
        Lease(tmp_path, "x").__enter__()
    os.utime(path, (0, 0))
    with Lease(tmp_path, "x"):
        assert path.read_text() != ""


def test_it_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lease(tmp_path / "new", "x"):
        assert leftovers(tmp_path / "new") == [LEASE]
        raise ZeroDivisionError
    assert leftovers(tmp_path / "new") == []


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.01)
    with Lease(tmp_path, "x"):
        os.utime(tmp_path / LEASE, (0, 0))
        deadline = time.monotonic() + 60
        while (age := lease.heartbeat_age(tmp_path / LEASE)) is None or age > 10**6:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert lease.heartbeat_age(tmp_path / LEASE) is None


def test_a_holder_that_lost_its_lease_does_not_delete_the_new_one(tmp_path: Path) -> None:
    with Lease(tmp_path, "suspended for an hour"):
        foreign_lease(tmp_path, 0)
    assert json.loads((tmp_path / LEASE).read_text())["host"] == "node17"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LeaseError, match=r"file/run: cannot be made \(Not a directory\)\. Give paths\.run_dir"):
        Lease(tmp_path / "file" / "run", "x").__enter__()


def test_a_requeued_job_waits_for_the_end_of_its_earlier_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4242")
    holder = start_holder(tmp_path)

    def end_holder(message: str) -> None:
        note(message)
        holder.terminate()

    monkeypatch.setattr(lease, "note", end_holder)
    with Lease(tmp_path, "pipeline train"):
        assert holder.wait(600) == -signal.SIGTERM
    assert capsys.readouterr().err.count("waiting for the end of this Slurm job's earlier start") == 1
    foreign_lease(tmp_path, STALE_SECONDS - 1)
    with Lease(tmp_path, "pipeline train"):  # its node is gone
        assert leftovers(tmp_path) == [LEASE]
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0)
    foreign_lease(tmp_path, 0)
    with pytest.raises(LeaseError, match="Slurm job 4242"), Lease(tmp_path, "pipeline train"):
        pass
