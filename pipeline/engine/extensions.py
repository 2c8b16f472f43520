"""Compile DeepSpeed's operators before they are used: once on each machine, on its own disk.

By default DeepSpeed compiles an operator at its first use, in a folder below $HOME, under a lock
that is a mere file: a process killed meanwhile leaves the file, and all later processes wait for
ever. Here an operator is compiled in a temporary folder, which is renamed when it is complete,
under a lock that the system releases when its holder dies. Writes below TORCH_EXTENSIONS_DIR. Free
of torch.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import UserError

FOLDER_VARIABLE = "TORCH_EXTENSIONS_DIR"
"""Environment variable with the folder in which torch looks for compiled extensions."""
BATON = "lock"
"""File name of torch's own lock in an operator's folder.

The process that creates the file builds; the others wait until the file is gone.
Source: torch 2.13, utils/file_baton.py.
"""
SECOND_LOOK_SECONDS = 0.5
"""Seconds after which a lock that no process has open is looked at again, before it is removed."""
OUTPUT_CHARACTERS = 3000
"""Characters of the compiler's output, from its end, that an error reports."""


@dataclass(frozen=True)
class Operator:
    """An operator as DeepSpeed builds it."""

    name: str
    """Name of the operator's folder, as DeepSpeed spells it."""
    what: str
    """Description for the user."""
    program: str
    """Python code that compiles the operator below TORCH_EXTENSIONS_DIR."""
    usual: str
    """Time that compiling usually takes on two cores, in words."""
    remedy: str
    """Remedy for the user if the operator cannot be compiled."""

    @property
    def announcement(self) -> str:
        """The message to the user before the operator is built."""
        return f"building {self.what} once on this machine, about {self.usual}"


def use_operator_folder() -> Path:
    """Set the folder of compiled operators, for torch in this process and its children.

    Call it before operators are loaded. Returns the folder. Raises UserError where others may write
    into the default folder, since its content is executed.
    """
    if not os.environ.get(FOLDER_VARIABLE):
        base = Path(tempfile.gettempdir()) / f"pipeline-extensions-{os.getuid()}"
        base.mkdir(mode=0o700, exist_ok=True)
        state = base.lstat()
        if state.st_uid != os.getuid() or state.st_mode & 0o022 or base.is_symlink():
            raise UserError(
                f"{base}: others may write there, and what lies in it would be executed; remove "
                f"it, or set {FOLDER_VARIABLE} to a folder on this machine's own disk"
            )
        os.environ[FOLDER_VARIABLE] = str(base / _folder_name())

    # At every load torch asks ninja whether to compile again. Another ninja than the one that built
    # an operator says yes, so the one installed beside this Python has to come first.
    beside = str(Path(sys.executable).parent)
    others = [folder for folder in os.get_exec_path() if folder != beside]
    os.environ["PATH"] = os.pathsep.join([beside, *others])
    return Path(os.environ[FOLDER_VARIABLE])


def _folder_name() -> str:
    """Return a name for the operators that fit this Python, the libraries and the processor."""
    versions = (
        f"py{platform.python_version()}-torch{version('torch')}-deepspeed{version('deepspeed')}"
    )
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        instructions = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        # The key holds whatever else is in the compiler's command: with another command torch
        # would compile the operator again, in the same folder.
        accelerator = os.environ.get("DS_ACCELERATOR", "")
        key = f"{sys.prefix} {accelerator} {platform.machine()} {instructions}"
        return f"{versions}-{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"
    return versions


def is_operator_built(operator: Operator) -> bool:
    """Tell whether an operator has been compiled on this machine."""
    return (use_operator_folder() / operator.name).is_dir()


def provide_operator(operator: Operator) -> None:
    """Compile an operator unless this machine has it.

    Where several processes call it, one compiles and the others wait. Raises UserError, with the
    end of the compiler's output, where the operator cannot be compiled.
    """
    folder = use_operator_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f".{operator.name}.lock"):
        if not is_operator_built(operator):
            _build(operator, folder)
        _drop_dead_baton(folder / operator.name / BATON)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold a lock on a file, which the system releases when this process ends in any way."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(operator: Operator, folder: Path) -> None:
    # Remove what builds that were killed have left.
    for unfinished in folder.glob(f".{operator.name}.building-*"):
        shutil.rmtree(unfinished, ignore_errors=True)

    # Compile in a process of its own, and name the folder when it is complete.
    building = Path(tempfile.mkdtemp(prefix=f".{operator.name}.building-", dir=folder))
    process = subprocess.Popen(
        [sys.executable, "-c", operator.program],
        env=os.environ | {FOLDER_VARIABLE: str(building)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output = process.communicate()[0]
        if process.returncode or not (building / operator.name).is_dir():
            raise UserError(
                f"{operator.what} could not be compiled on {platform.node()} (exit code "
                f"{process.returncode}): {operator.remedy}.\n{output[-OUTPUT_CHARACTERS:]}"
            )
        (building / operator.name).rename(folder / operator.name)
    finally:
        process.kill()
        shutil.rmtree(building, ignore_errors=True)


def _drop_dead_baton(baton: Path) -> None:
    """Remove torch's lock if a process that was killed has left it; wait while one holds it."""
    while baton.exists():
        before = _identity(baton)
        if _is_open(baton):
            time.sleep(SECOND_LOOK_SECONDS)
            continue
        # The holder closes the file before it removes it, so a closed one may be about to vanish.
        time.sleep(SECOND_LOOK_SECONDS)
        if before is not None and _identity(baton) == before and not _is_open(baton):
            baton.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return a file's inode and time of change, which differ in a later file of the same name."""
    with suppress(FileNotFoundError):
        state = path.stat()
        return state.st_ino, state.st_mtime_ns
    return None


def _is_open(path: Path) -> bool:
    """Tell whether any process of this user on this machine has a file open."""
    wanted = str(path.resolve())
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(link.readlink()) == wanted:
                return True
    return False
