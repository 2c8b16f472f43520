"""One job at a time in a folder: a lease file with the holder's name and a heartbeat.

The file's own modification time is the heartbeat, compared with the file system's clock (that of a
file written now), so hosts need not agree on the time. A lease is taken over when its holder is
known to be dead: at once for a process that would be seen from here, after `STALE_SECONDS` without
a heartbeat for one of another host or PID namespace.

A dead holder's lease is replaced in one rename by the process that first makes a claim: a lease of
its own, whose name follows from what the dead one says. A claim whose maker has died is taken over
in the same way.
"""

import json
import os
import secrets
import socket
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import LeaseError
from pipeline.logs import note
from pipeline.store.files import FILE_MODE, fingerprint, write_atomic
from pipeline.store.layout import LEASE, lease_path
from pipeline.store.periodic import Periodic
from pipeline.store.processes import ProcessIdentity, can_be_seen, is_running, own_identity

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
PATIENCE_SECONDS = 120.0
"""For the end of the same Slurm job's earlier start: until it is stale, or Slurm's KillWait is
over."""
ATTEMPTS = 10
"""Times that a lease may change hands while it is being taken."""
MOST_BYTES = 65_536
"""As much of a lease file is read: a real one has some hundred bytes."""


class LeaseContent(ProcessIdentity, total=False):
    """What a lease says of its holder. Any of it may be missing where the file is damaged."""

    job: str | None
    """Slurm job; None outside of one."""
    purpose: str
    """The command."""
    token: str
    """Tells two leases of one process from each other."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as far as its file says."""

    text: str
    """All that stands in it: two holders never write the same."""
    says: LeaseContent
    """`text` as a JSON object, empty where it is none."""


class Lease:
    """Context manager that holds `folder`; raises LeaseError naming the holder if somebody else
    does."""

    def __init__(self, folder: Path, purpose: str) -> None:
        self.path = lease_path(folder)
        job = os.environ.get("SLURM_JOB_ID")
        self._text = json.dumps(
            own_identity() | {"job": job, "purpose": purpose, "token": secrets.token_hex(8)}
        )
        self._heartbeat = Periodic(HEARTBEAT_SECONDS, self._beat)

    def __enter__(self) -> "Lease":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LeaseError(
                f"{self.path.parent}: cannot be made ({error.strerror}). "
                f"Give paths.run_dir or paths.data_dir another folder."
            ) from None
        has_said = False
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (holder := self._try()) is not None:
            if not _is_of_this_job(holder) or time.monotonic() > deadline:
                raise LeaseError(self._in_use(holder))
            if not has_said:
                note(f"{self.path.parent}: waiting for the end of this Slurm job's earlier start")
                has_said = True
            time.sleep(1)
        self._remove_void_claims()
        self._heartbeat.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._heartbeat.stop()
        self._give_back(self.path)

    def _try(self) -> Holder | None:
        """Take the lease, or return its living holder. Raises LeaseError where files cannot be
        written."""
        try:
            return self._take(self.path)
        except OSError as error:
            raise LeaseError(
                f"{self.path.parent}: cannot be written ({error.strerror}). Give paths.run_dir or "
                "paths.data_dir "
                f"another folder, or make this one writable."
            ) from None

    def _take(self, path: Path) -> Holder | None:
        """Put this process's lease at a path unless a living one stands there, which is
        returned."""
        for _ in range(ATTEMPTS):
            if self._create(path):
                return None
            holder = read_holder(path)
            if holder is None:  # given back meanwhile
                continue
            if _is_alive(path, holder):
                return holder
            claim = _claim(path, holder.text)
            rival = self._take(claim)
            if rival is not None:
                return rival
            try:
                if self._replace(path, holder):
                    return None
            finally:
                self._give_back(claim)
        raise LeaseError(f"{path}: could not be taken; is the file system writable?")

    def _create(self, path: Path) -> bool:
        """Write the lease where there is none; of several processes one succeeds."""
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self._text)
        except OSError:  # a full disk
            path.unlink(missing_ok=True)
            raise
        return True

    def _replace(self, path: Path, dead: Holder) -> bool:
        """Put this lease in the place of a dead holder's, if it is still that: only who has the
        claim may do so."""
        present = read_holder(path)
        if present is None or present.text != dead.text or _is_alive(path, present):
            return False
        write_atomic(path, self._text)
        return True

    def _give_back(self, path: Path) -> None:
        with suppress(
            OSError
        ):  # then others see by the process, or by its age, that nobody holds it
            if self._is_at(path):
                path.unlink(missing_ok=True)

    def _is_at(self, path: Path) -> bool:
        """Tell whether nobody took the lease over, as may happen to a process that was suspended
        for a minute."""
        try:
            return path.read_text() == self._text
        except (OSError, ValueError):
            return False

    def _remove_void_claims(self) -> None:
        """Delete the claims to earlier leases, which their makers have not outlived."""
        own = _claim(self.path, self._text)
        with suppress(OSError):
            for claim in self.path.parent.glob(f"{LEASE}.after-*"):
                if claim != own:
                    claim.unlink(missing_ok=True)

    def _beat(self) -> None:
        with suppress(OSError):  # a moment of trouble on a network file system; tried again
            if self._is_at(self.path):
                os.utime(self.path)

    def _in_use(self, holder: Holder) -> str:
        says = holder.says
        number = says.get("job")
        job = f", Slurm job {number}" if number else ""
        age = heartbeat_age(self.path)
        seen = "" if age is None else f", last sign of life {age:.0f} s ago"
        who = (
            f"process {says.get('pid')} on {says.get('host')}{job}"
            if says
            else f"{LEASE} names no holder"
        )
        until = (
            ""
            if can_be_seen(says)
            else f" It is taken over after {STALE_SECONDS:.0f} s without a sign of life."
        )
        return (
            f"{self.path.parent} is in use by `{says.get('purpose', 'another command')}`: "
            f"{who}{seen}.{until} "
            "Wait for it or stop it; or give this command another folder (paths.run_dir, "
            "paths.data_dir)."
        )


def read_holder(path: Path) -> Holder | None:
    """Return who holds the lease in a file, None where there is none.

    Raises LeaseError where something else than a file stands there, which no age makes free.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(kind):
        raise LeaseError(
            f"{path}: is no file, but a folder, a link or a device. Nobody can hold it; remove it"
        )
    text = _text_of(path)
    if text is None:
        return None
    says = _as_json(text)
    if not says:  # being written right now, or damaged
        time.sleep(0.2)
        text = _text_of(path)
        says = _as_json(text or "")
    return None if text is None else Holder(text, says)


def living_holder(folder: Path) -> LeaseContent | None:
    """Return what the lease of a folder says of its holder; None where nobody is known to hold
    it."""
    path = lease_path(folder)
    try:
        holder = read_holder(path)
    except (LeaseError, OSError):
        return None
    return holder.says if holder is not None and _is_alive(path, holder) else None


def _text_of(path: Path) -> str | None:
    """Return what stands in a lease file, None where it is gone; nothing where this user may not
    read it."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        return None
    except PermissionError:
        return ""


def _as_json(text: str) -> Any:
    try:
        says = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return says if isinstance(says, dict) else {}


def _claim(path: Path, text: str) -> Path:
    """Return the name of the claim to the lease that says so."""
    return path.with_name(f"{LEASE}.after-{fingerprint(text)}")


def _is_alive(path: Path, holder: Holder) -> bool:
    """Tell whether the holder lives: by its process where it would be seen from here, else by its
    heartbeat.

    One that is dated in the future, as after the clock of the file system was set back, is dated
    now: its holder's next heartbeat would do the same, and without one it is stale after
    `STALE_SECONDS`.
    """
    if can_be_seen(holder.says):
        return is_running(holder.says)
    age = _age(path)
    if age is not None and age < -HEARTBEAT_SECONDS:
        with suppress(OSError):
            os.utime(path)
    return age is None or age <= STALE_SECONDS


def heartbeat_age(path: Path) -> float | None:
    """Return seconds since the lease was last refreshed, by the file system's own clock.

    None where it cannot be told: there is no lease, the file system is in trouble, or it is dated
    in the future.
    """
    age = _age(path)
    return None if age is None or age < -HEARTBEAT_SECONDS else max(0.0, age)


def _age(path: Path) -> float | None:
    probe = path.with_name(
        f"{LEASE}.clock.{socket.gethostname()}.{os.getpid()}-{secrets.token_hex(4)}"
    )
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return None
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _is_of_this_job(holder: Holder) -> bool:
    """Tell whether a requeue has started this Slurm job again while its first start is ending, or
    has died with its node."""
    job = holder.says.get("job")
    return job is not None and job == os.environ.get("SLURM_JOB_ID")
