"""One job at a time: who is refused, whose lease is taken over, and when it is given back."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cluster.ranks import refuse_if_taken_over
from pipeline.errors import DataError, LeaseError
from pipeline.logs import note
from pipeline.store import lease
from pipeline.store.layout import LEASE, START_ORDER
from pipeline.store.lease import STALE_SECONDS, Lease
from pipeline.store.processes import own_identity

HOLDER = """
import sys, time, pathlib
from pipeline.store.lease import Lease
with Lease(pathlib.Path(sys.argv[1]), "pipeline train"):
    print("held", flush=True)
    time.sleep(600)
"""


def start_holder(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def foreign_lease(folder: Path, age: float) -> Path:
    """Write what a job on another host left, last refreshed `age` seconds ago."""
    path = folder / LEASE
    path.write_text(
        json.dumps(
            {"host": "node17", "boot": "b", "pid": 1, "job": "4242", "purpose": "pipeline train"}
        )
    )
    stamp = path.stat().st_mtime - age
    os.utime(path, (stamp, stamp))
    return path


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.ranks
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
        f"{tmp_path} is in use by `pipeline train`: process {holder.pid} on "
        f"{socket.gethostname()}, last sign of life "
    )
    assert message.endswith("another folder (paths.run_dir, paths.data_dir).")
    assert error.value.exit_code == 2


def test_the_same_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with (
        Lease(tmp_path, "first"),
        pytest.raises(LeaseError, match="in use by `first`"),
        Lease(tmp_path, "second"),
    ):
        pass
    assert leftovers(tmp_path) == []


@pytest.mark.ranks
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
    holder = json.loads(text) | {
        "started": "1"
    }  # this process's number, of a process started at boot
    (tmp_path / LEASE).write_text(json.dumps(holder))
    with Lease(tmp_path, "new"):
        assert json.loads((tmp_path / LEASE).read_text())["purpose"] == "new"


def test_another_hosts_lease_holds_while_its_heart_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_SECONDS", 10**6)
    foreign_lease(tmp_path, 9 * 10**5)
    with pytest.raises(
        LeaseError, match=r"process 1 on node17, Slurm job 4242, last sign of life 90\d{4} s ago"
    ):
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


def test_a_holder_that_lost_its_lease_does_not_keep_the_new_one_alive(tmp_path: Path) -> None:
    with Lease(tmp_path, "suspended for an hour") as lost:
        path = foreign_lease(tmp_path, 1000)
        lost._beat()
        age = lease.heartbeat_age(path)
        assert age is not None and age >= 1000


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        LeaseError, match=r"file/run: cannot be made \(Not a directory\)\. Set paths\.run_dir"
    ):
        Lease(tmp_path / "file" / "run", "x").__enter__()


def test_a_folder_that_has_gone_is_not_made_anew_where_it_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: does not exist any more"):
        Lease(tmp_path / "gone", "x", makes_folder=False).__enter__()
    assert not (tmp_path / "gone").exists()
    with Lease(tmp_path, "x", makes_folder=False) as held:
        assert held.path.is_file()


@pytest.mark.ranks
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
    assert (
        capsys.readouterr().err.count("waiting for the end of this Slurm job's earlier start") == 1
    )
    foreign_lease(tmp_path, STALE_SECONDS - 1)
    with Lease(tmp_path, "pipeline train"):  # its node is gone
        assert leftovers(tmp_path) == [LEASE]
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0)
    foreign_lease(tmp_path, 0)
    with pytest.raises(LeaseError, match="Slurm job 4242"), Lease(tmp_path, "pipeline train"):
        pass


def leave_lease(folder: Path, age: float, **changes: object) -> Path:
    """Write what a process of this host that has ended left, with some fields changed."""
    path = folder / LEASE
    path.write_text(
        json.dumps(own_identity() | {"pid": 2**22 + 1, "purpose": "pipeline train"} | changes)
    )
    stamp = path.stat().st_mtime - age
    os.utime(path, (stamp, stamp))
    return path


@pytest.mark.parametrize("field", ["pid_namespace", "boot", "host"])
def test_a_process_that_would_not_be_seen_from_here_is_not_taken_for_dead(
    tmp_path: Path, field: str
) -> None:
    """As in another container: the same host name and boot, and process numbers that count anew."""
    leave_lease(tmp_path, 0, **{field: "another"})
    with pytest.raises(LeaseError):
        Lease(tmp_path, "x").__enter__()
    leave_lease(tmp_path, STALE_SECONDS + 5, **{field: "another"})
    with Lease(tmp_path, "x"):
        pass
    leave_lease(tmp_path, 0)
    with Lease(tmp_path, "x"):
        pass
    assert leftovers(tmp_path) == []


DAMAGED = {
    "list": b"[1]",
    "number": b"17",
    "not UTF-8": b'{"host": "\xff\xfe"}',
    "nested": b"[" * 50_000,
    "long": b'{"host": "' + b"x" * 10**6,
    "other types": b'{"host": [], "boot": {}, "pid": "1", "started": 5, "job": [], "purpose": {"a": []}}',
    "empty": b"",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_lease_is_respected_until_it_is_stale(tmp_path: Path, name: str) -> None:
    path = tmp_path / LEASE
    path.write_bytes(DAMAGED[name])
    with pytest.raises(LeaseError) as error:
        Lease(tmp_path, "x").__enter__()
    assert error.value.exit_code == 2
    assert len(str(error.value)) < 1000
    os.utime(path, (0, 0))
    with Lease(tmp_path, "x"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / LEASE)
    with pytest.raises(LeaseError, match=re.escape(str(tmp_path / LEASE))):
        Lease(tmp_path, "x").__enter__()


def test_a_lease_dated_in_the_future_does_not_hold_for_ever(tmp_path: Path) -> None:
    path = foreign_lease(tmp_path, -(10**6))
    assert (
        lease.heartbeat_age(path) is None
    )  # no sign of life: ranks on other hosts end without one
    with pytest.raises(LeaseError):
        Lease(tmp_path, "x").__enter__()
    age = lease.heartbeat_age(path)
    assert age is not None
    assert age < STALE_SECONDS
    foreign_lease(tmp_path, STALE_SECONDS + 5)
    with Lease(tmp_path, "x"):
        assert json.loads(path.read_text())["purpose"] == "x"


ROUNDS = """
import os, pathlib, random, sys, time
from pipeline.store import lease
from pipeline.cluster.ranks import refuse_if_taken_over
from pipeline.errors import DataError, LeaseError

FILE_EVENTS = {"open", "os.rename", "os.link", "os.remove"}
folder, rounds, dying = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "dying"

def start(number, go, told, end):
    os.close(go[1])
    os.close(end[1])
    os.read(go[0], 1)  # until the parent closes it: all at once
    # Processes meet in any order at each step.
    sys.addaudithook(lambda event, _: time.sleep(random.random() * 0.004) if event in FILE_EVENTS else None)
    if dying and number == 0:
        lease.write_atomic = lambda *_: os._exit(0)  # killed between its claim and the lease
    try:
        lease.Lease(folder, f"starter {number}").__enter__()
        answer = b"+"
    except LeaseError:
        answer = b"-"
    if dying and number == 0:
        os._exit(0)
    os.write(told[1], answer)
    os.read(end[0], 1)  # nobody ends before all have tried
    os._exit(0)  # as killed: the lease stays

for round in range(rounds):
    go, told, end = os.pipe(), os.pipe(), os.pipe()
    children = []
    for number in range(3):
        if (child := os.fork()) == 0:
            start(number, go, told, end)
        children.append(child)
    for descriptor in (go[0], go[1], told[1], end[0]):
        os.close(descriptor)
    if dying:
        os.waitpid(children.pop(0), 0)
    answers = b""
    while len(answers) < len(children):
        answers += os.read(told[0], 3) or sys.exit("a starter died")
    os.close(end[1])
    os.close(told[0])
    for child in children:
        os.waitpid(child, 0)
    print(answers.count(b"+"), flush=True)
"""


@pytest.mark.ranks
@pytest.mark.parametrize("kind", ["whole", "dying"])
def test_of_three_that_start_after_the_holder_died_exactly_one_gets_it(
    tmp_path: Path, kind: str
) -> None:
    """In each round the last one's holder has just died. `dying`: one is killed in the middle of
    taking over."""
    leave_lease(tmp_path, 0)
    rounds = 25
    command = [sys.executable, "-c", ROUNDS, str(tmp_path), str(rounds), kind]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    got = [int(line) for line in ended.stdout.split()]
    assert len(got) == rounds
    assert set(got) == {1} if kind == "whole" else set(got) <= {0, 1}
    with Lease(tmp_path, "x"):
        assert leftovers(tmp_path) == [LEASE]


@pytest.mark.parametrize("content", [b"[1]", b"17", b"\xff", b'{"stop": true}', b""])
def test_a_damaged_start_file_is_no_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / START_ORDER).write_bytes(content)
    refuse_if_taken_over(tmp_path, "mine")
    (tmp_path / START_ORDER).write_text('{"start": "another"}')
    with pytest.raises(LeaseError, match="another"):
        refuse_if_taken_over(tmp_path, "mine")
