"""DeepSpeed's operators that are compiled on the machine that needs them: once, on its own disk,
before they are used.

Left alone, DeepSpeed compiles one at its first use, in a folder below $HOME, under a lock that is a
mere file: a process killed meanwhile leaves it there, and all later ones wait for ever. Here an
operator is compiled in a folder of its own, which gets its name when it is complete, under a lock
that the system releases when its holder dies. Free of torch.
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import UserError

FOLDER_VARIABLE = "TORCH_EXTENSIONS_DIR"
"""Where torch looks for compiled extensions."""
BATON = "lock"
"""torch's own lock, in an operator's folder: who could create it builds, the others wait until it
is gone. Source: torch 2.13, utils/file_baton.py."""
SECOND_LOOK_SECONDS = 0.5
OUTPUT_CHARACTERS = 3000


@dataclass(frozen=True)
class Operator:
    """An operator as DeepSpeed builds it."""

    name: str
    """Of its folder."""
    what: str
    """What the user is told that it is."""
    program: str
    """Python that compiles it below TORCH_EXTENSIONS_DIR."""
    usual: str
    """What it takes on two cores."""
    remedy: str
    """What to do where it cannot be compiled."""

    @property
    def announcement(self) -> str:
        """What the user is told before it is built."""
        return f"building {self.what} once on this machine, about {self.usual}"


def use_operator_folder() -> Path:
    """Tell torch, in this process and those it starts, where compiled operators are; call before
    they are loaded.

    Torch asks ninja at every load whether to compile again, and another ninja than built an
    operator says yes: the one that is installed beside this Python comes first. Raises UserError
    where the default folder is not this user's alone: what lies in it is executed.
    """
    if not os.environ.get(FOLDER_VARIABLE):
        base = Path(tempfile.gettempdir()) / f"pipeline-extensions-{os.getuid()}"
        base.mkdir(mode=0o700, exist_ok=True)
        state = base.lstat()
        if state.st_uid != os.getuid() or state.st_mode & 0o022 or base.is_symlink():
            raise UserError(
                f"{base}: others may write there, and what lies in it would be executed; remove "
                "it, or set "
                f"{FOLDER_VARIABLE} to a folder on this machine's own disk"
            )
        os.environ[FOLDER_VARIABLE] = str(base / _fitting())
    beside, *others = str(Path(sys.executable).parent), *os.get_exec_path()
    os.environ["PATH"] = os.pathsep.join(
        [beside, *(folder for folder in others if folder != beside)]
    )
    return Path(os.environ[FOLDER_VARIABLE])


def _fitting() -> str:
    """Name the folder of operators that fit this Python, these libraries and this processor's
    instructions."""
    versions = (
        f"py{platform.python_version()}-torch{version('torch')}-deepspeed{version('deepspeed')}"
    )
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        instructions = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        # With what else stands in the compiler's command: another one would build it again, in the
        # same folder.
        accelerator = os.environ.get("DS_ACCELERATOR", "")
        key = f"{sys.prefix} {accelerator} {platform.machine()} {instructions}"
        return f"{versions}-{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"
    return versions


def is_operator_built(operator: Operator) -> bool:
    """Tell whether an operator is complete on this machine."""
    return (use_operator_folder() / operator.name).is_dir()


def provide_operator(operator: Operator) -> None:
    """Compile an operator unless this machine has it; of several processes one does and the others
    wait for it.

    Raises UserError with the compiler's last words where it cannot be compiled.
    """
    folder = use_operator_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f".{operator.name}.lock"):
        if not is_operator_built(operator):
            _build(operator, folder)
        _drop_dead_baton(folder / operator.name / BATON)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when this process ends, however it ends
        yield


def _build(operator: Operator, folder: Path) -> None:
    for unfinished in folder.glob(f".{operator.name}.building-*"):  # of a build that was killed
        shutil.rmtree(unfinished, ignore_errors=True)
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
                f"{process.returncode}): "
                f"{operator.remedy}.\n{output[-OUTPUT_CHARACTERS:]}"
            )
        (building / operator.name).rename(folder / operator.name)
    finally:
        process.kill()
        shutil.rmtree(building, ignore_errors=True)


def _drop_dead_baton(baton: Path) -> None:
    """Remove torch's lock where no process holds it any more: one killed while loading has left
    it."""
    while baton.exists():
        before = _identity(baton)
        if _is_open(baton):
            time.sleep(SECOND_LOOK_SECONDS)
            continue
        # Its holder closes it first and removes it then, so an unheld one may be about to go.
        time.sleep(SECOND_LOOK_SECONDS)
        if before is not None and _identity(baton) == before and not _is_open(baton):
            baton.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
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
