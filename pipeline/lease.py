"""One job at a time in a folder: a lease file with the holder's name and a heartbeat.

The file's own modification time is the heartbeat, compared with the file system's clock (that of a file written now),
so hosts need not agree on the time. A lease is taken over when its holder is known to be dead: at once for a process
of this host, after `STALE_SECONDS` without a heartbeat for one of another host.
"""

import contextlib
import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import LeaseError
from pipeline.logs import note

LEASE = ".lease.json"
START = ".start.json"
"""File in a run folder that names the present start of its ranks, whose others end, and says whether they shall stop.

One file that is always there: network file systems show a change of it when it is opened, but a new file only later.
"""
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
PATIENCE_SECONDS = 120.0
"""For the end of the same Slurm job's earlier start: until it is stale, or Slurm's KillWait is over."""


class Lease:
    """Context manager that holds `folder`; raises LeaseError naming the holder if somebody else does."""

    def __init__(self, folder: Path, purpose: str) -> None:
        self.path = folder / LEASE
        self._text = json.dumps(_identity() | {"purpose": purpose})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Lease":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LeaseError(
                f"{self.path.parent}: cannot be made ({error.strerror}). "
                f"Give paths.run_dir or paths.data_dir another folder."
            ) from None
        has_said = False
        races, deadline = 0, time.monotonic() + PATIENCE_SECONDS
        while races < 10:  # for a dead holder's lease; settled by who creates the file
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                holder = self._remove_if_dead()
                if holder is None:
                    races += 1
                    continue
                if not _is_of_this_job(holder) or time.monotonic() > deadline:
                    raise LeaseError(self._in_use(holder)) from None
                if not has_said:
                    note(f"{self.path.parent}: waiting for the end of this Slurm job's earlier start")
                    has_said = True
                time.sleep(1)
                continue
            except OSError as error:
                raise LeaseError(
                    f"{self.path.parent}: cannot be written ({error.strerror}). Give paths.run_dir or paths.data_dir "
                    f"another folder, or make this one writable."
                ) from None
            with os.fdopen(descriptor, "w") as file:
                file.write(self._text)
            self._thread.start()
            return self
        raise LeaseError(f"{self.path}: could not be taken; is the file system writable?")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._is_ours():
            self.path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        """Tell whether nobody took the lease over, as may happen to a process that was suspended for a minute."""
        try:
            return self.path.read_text() == self._text
        except OSError:
            return False

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a moment of trouble on a network file system; tried again
                if self._is_ours():
                    os.utime(self.path)

    def _remove_if_dead(self) -> dict[str, Any] | None:
        """Return the holder if it lives."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return None
        try:
            holder = json.loads(text)
        except ValueError:  # being written right now, or left empty by a full disk
            time.sleep(0.2)
            holder = {}
        age = heartbeat_age(self.path)
        if age is None:
            return None
        here = holder.get("host") == socket.gethostname() and holder.get("boot") == _boot_id()
        if not _is_alive(holder) if here else age > STALE_SECONDS:
            grave = self.path.with_name(f"{LEASE}.{os.getpid()}")
            try:
                self.path.rename(grave)
            except FileNotFoundError:
                return None
            if grave.read_text() != text:  # somebody was quicker: this is the new holder's, given back
                with contextlib.suppress(FileExistsError):
                    os.link(grave, self.path)
            grave.unlink()
            return None
        return holder

    def _in_use(self, holder: dict[str, Any]) -> str:
        job = f", Slurm job {holder['job']}" if holder.get("job") else ""
        age = heartbeat_age(self.path)
        seen = "" if age is None else f", last sign of life {age:.0f} s ago"
        return (
            f"{self.path.parent} is in use by `{holder.get('purpose', 'another command')}`: "
            f"process {holder.get('pid')} on {holder.get('host')}{job}{seen}. "
            f"Wait for it or stop it; or give this command another folder (paths.run_dir, paths.data_dir)."
        )


def heartbeat_age(path: Path) -> float | None:
    """Return seconds since the lease was last refreshed, by the file system's own clock; None if it cannot be told."""
    probe = path.with_name(f"{LEASE}.clock.{socket.gethostname()}.{os.getpid()}")
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - path.stat().st_mtime)
    except FileNotFoundError:
        return None
    except OSError:  # a moment of trouble on a network file system
        return None
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _identity() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "started": process_start_time(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
    }


def _is_of_this_job(holder: dict[str, Any]) -> bool:
    """Tell whether a requeue has started this Slurm job again while its first start is ending, or has died with its node."""
    return holder.get("job") is not None and holder["job"] == os.environ.get("SLURM_JOB_ID")


def _is_alive(holder: dict[str, Any]) -> bool:
    pid = holder.get("pid")
    return (
        isinstance(pid, int)
        and process_start_time(pid) is not None
        and process_start_time(pid) == holder.get("started")
    )


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def process_start_time(pid: int) -> str | None:
    """Return the kernel's start time of a living process, which tells it from a later one with the same number."""
    try:
        # The command in parentheses may hold spaces; after it come the state and, as the 20th field, the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie has ended, though its parent has not noticed
    except OSError:
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return "unknown" if not Path("/proc/self").exists() else None
