"""A lease on a folder, so that only one job at a time works in it.

The lease is a JSON file that names its holder. Its modification time is the heartbeat. It is
compared with the modification time of a file written now, so hosts need not agree on the time. A
lease is taken over when its holder is dead: at once if the process would be visible from here,
after `STALE_SECONDS` without a heartbeat if it belongs to another host or PID namespace.

To take over a dead holder's lease, a process first takes a claim: a lease file of its own, whose
name follows from the content of the dead lease, so only one process can create it. Then it replaces
the dead lease in one rename. The claim of a process that has died is taken over in the same way.
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

from pipeline.errors import DataError, LeaseError, is_missing
from pipeline.logs import note
from pipeline.store.files import FILE_MODE, fingerprint, write_atomic
from pipeline.store.layout import LEASE, lease_path
from pipeline.store.periodic import Periodic
from pipeline.store.processes import ProcessIdentity, can_be_seen, is_running, own_identity

HEARTBEAT_SECONDS = 5.0
"""Time between two heartbeats of a holder."""
STALE_SECONDS = 60.0
"""A holder that cannot be seen from here is dead after this time without a heartbeat."""
PATIENCE_SECONDS = 120.0
"""Maximum wait for the earlier start of the same Slurm job to end: longer than `STALE_SECONDS` and
than Slurm's KillWait."""
ATTEMPTS = 10
"""Number of times that a lease may change hands while a process tries to take it."""
MOST_BYTES = 65_536
"""Maximum number of bytes that are read of a lease file; a real one has a few hundred."""


class LeaseContent(ProcessIdentity, total=False):
    """Content of a lease file. In a damaged file any key may be missing."""

    job: str | None
    """Slurm job; None outside of Slurm."""
    purpose: str
    """The command that holds the lease."""
    token: str
    """Random text, different for two leases of the same process."""


@dataclass(frozen=True)
class Holder:
    """The holder of a lease, as its file describes it."""

    text: str
    """Whole text of the file; two holders never write the same."""
    content: LeaseContent
    """`text` as a JSON object, empty where the text is no JSON object."""


class Lease:
    """Context manager that holds a folder.

    Raises LeaseError naming another living holder; DataError where there is no folder and none is
    to be made.
    """

    def __init__(self, folder: Path, purpose: str, *, makes_folder: bool = True) -> None:
        self.path = lease_path(folder)
        self._makes_folder = makes_folder
        job = os.environ.get("SLURM_JOB_ID")
        self._text = json.dumps(
            own_identity() | {"job": job, "purpose": purpose, "token": secrets.token_hex(8)}
        )
        self._heartbeat = Periodic(HEARTBEAT_SECONDS, self._beat)

    def __enter__(self) -> "Lease":
        # A lease lies in the folder, which may be yet to be made.
        try:
            if self._makes_folder:
                self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LeaseError(
                f"{self.path.parent}: cannot be made ({error.strerror}). "
                "Set paths.run_dir or paths.data_dir to another folder."
            ) from None

        # Only the earlier start of this Slurm job is waited for: it is about to end.
        holder = self._try_to_take()
        if holder is not None and _is_of_this_job(holder):
            note(f"{self.path.parent}: waiting for the end of this Slurm job's earlier start")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while holder is not None:
            if not _is_of_this_job(holder) or time.monotonic() > deadline:
                raise LeaseError(self._in_use_message(holder))
            time.sleep(1)
            holder = self._try_to_take()

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

    def _try_to_take(self) -> Holder | None:
        """Take the lease, or return its living holder.

        Raises LeaseError where files cannot be written; DataError where the folder has gone.
        """
        try:
            return self._take(self.path)
        except OSError as error:
            if is_missing(error) and not self._makes_folder:
                raise DataError(f"{self.path.parent}: does not exist any more") from None
            raise LeaseError(
                f"{self.path.parent}: cannot be written ({error.strerror}). Set paths.run_dir or "
                "paths.data_dir to another folder, or make this one writable."
            ) from None

    def _take(self, path: Path) -> Holder | None:
        """Put this lease at a path, or return the living holder of the lease that is there."""
        for _ in range(ATTEMPTS):
            # A free lease.
            if self._create(path):
                return None

            # A held one; its holder may give it back before the file is read.
            holder = read_holder(path)
            if holder is None:
                continue
            if _is_alive(path, holder):
                return holder

            # A dead one: whoever holds the claim to it may replace it.
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
        """Write the lease if there is none, and tell whether; of several processes, one succeeds."""
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self._text)
        except OSError:
            # A lease that was written in part, as on a full disk, names no holder.
            path.unlink(missing_ok=True)
            raise
        return True

    def _replace(self, path: Path, dead: Holder) -> bool:
        """Replace a dead holder's lease if it is still there; only for who holds the claim to it."""
        present = read_holder(path)
        if present is None or present.text != dead.text or _is_alive(path, present):
            return False
        write_atomic(path, self._text)
        return True

    def _give_back(self, path: Path) -> None:
        # Where this fails, others see by the process, or by the heartbeat, that nobody holds it.
        with suppress(OSError):
            if self._is_at(path):
                path.unlink(missing_ok=True)

    def _is_at(self, path: Path) -> bool:
        """Tell whether this lease is still at a path.

        Another process may have taken it over while this one was suspended for a minute.
        """
        try:
            return path.read_text() == self._text
        except (OSError, ValueError):
            return False

    def _remove_void_claims(self) -> None:
        """Delete the claims to earlier leases, whose makers have died."""
        own = _claim(self.path, self._text)
        with suppress(OSError):
            for claim in self.path.parent.glob(f"{LEASE}.after-*"):
                if claim != own:
                    claim.unlink(missing_ok=True)

    def _beat(self) -> None:
        # A network file system may fail for a moment; the next beat tries again.
        with suppress(OSError):
            if self._is_at(self.path):
                os.utime(self.path)

    def _in_use_message(self, holder: Holder) -> str:
        content = holder.content

        # Who holds the lease, as far as the file says.
        who = f"{LEASE} names no holder"
        if content:
            who = f"process {content.get('pid')} on {content.get('host')}"
            job = content.get("job")
            if job:
                who += f", Slurm job {job}"
        age = heartbeat_age(self.path)
        if age is not None:
            who += f", last sign of life {age:.0f} s ago"

        # When this ends, and what to do.
        until = ""
        if not can_be_seen(content):
            until = f" It is taken over after {STALE_SECONDS:.0f} s without a sign of life."
        command = content.get("purpose", "another command")
        return (
            f"{self.path.parent} is in use by `{command}`: {who}.{until} Wait for it or stop it; "
            "or give this command another folder (paths.run_dir, paths.data_dir)."
        )


def read_holder(path: Path) -> Holder | None:
    """Return the holder of a lease, None where there is no file.

    Raises LeaseError where the path is no regular file: such a lease would never become free.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(kind):
        raise LeaseError(f"{path}: is not a file, but a folder, a link or a device. Remove it")
    text = _read_text(path)
    if text is None:
        return None
    content = _parse_content(text)

    # A file without content is damaged, or being written right now: look again.
    if not content:
        time.sleep(0.2)
        text = _read_text(path)
        if text is None:
            return None
        content = _parse_content(text)
    return Holder(text, content)


def living_holder(folder: Path) -> LeaseContent | None:
    """Return the content of a folder's lease; None where it has no living holder."""
    path = lease_path(folder)
    try:
        holder = read_holder(path)
    except (LeaseError, OSError):
        return None
    if holder is None or not _is_alive(path, holder):
        return None
    return holder.content


def _read_text(path: Path) -> str | None:
    """Return the text of a lease file: None without a file, empty where this user may not read it."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        return None
    except PermissionError:
        return ""


def _parse_content(text: str) -> LeaseContent:
    """Return the JSON object in a text, empty where there is none."""
    try:
        content: LeaseContent | None = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return content


def _claim(path: Path, text: str) -> Path:
    """Return the path of the claim: the lease that a process takes to replace a dead one.

    `text`: content of the dead lease; each content has a claim of its own.
    """
    return path.with_name(f"{LEASE}.after-{fingerprint(text)}")


def _is_alive(path: Path, holder: Holder) -> bool:
    """Tell whether the holder lives: by its process if visible from here, else by its heartbeat.

    A heartbeat in the future, as after the clock of the file system was set back, is set to now. A
    living holder does the same with its next heartbeat; a dead one is stale after `STALE_SECONDS`.
    """
    if can_be_seen(holder.content):
        return is_running(holder.content)
    age = _age(path)
    if age is not None and age < -HEARTBEAT_SECONDS:
        with suppress(OSError):
            os.utime(path)
    return age is None or age <= STALE_SECONDS


def heartbeat_age(path: Path) -> float | None:
    """Return the seconds since a lease's last heartbeat, by the clock of the file system.

    None where that is unknown: there is no lease, the file system is in trouble, or the heartbeat
    is in the future.
    """
    age = _age(path)
    if age is None or age < -HEARTBEAT_SECONDS:
        return None
    return max(0.0, age)


def _age(path: Path) -> float | None:
    # The modification time of a new file is the present time of the file system.
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
    """Tell whether the holder is an earlier start of this Slurm job, which was requeued.

    That start is ending, or has died with its node.
    """
    job = holder.content.get("job")
    return job is not None and job == os.environ.get("SLURM_JOB_ID")
