"""Compile DeepSpeed's operators before they are used: once on each machine, on its own disk.

By default DeepSpeed compiles an operator at its first use, in a folder below $HOME, under a lock
that is a mere file: a process killed meanwhile leaves the file, and all later processes wait for
ever. Here an operator is compiled in a temporary folder, which is renamed when it is complete,
under a lock that the system releases when its holder dies.

DeepSpeed also asks ninja at each load whether to compile again: a CPU second a rank, and yes for
each virtual environment. Here the folder's name says what an operator was compiled for, and the
operator is loaded as it is. Writes below TORCH_EXTENSIONS_DIR. Free of torch until an operator is
loaded.
"""

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from pipeline.errors import UserError

FOLDER_VARIABLE = "TORCH_EXTENSIONS_DIR"
"""Environment variable with the folder in which torch looks for compiled extensions."""
GPU_DESCRIPTIONS = Path("/proc/driver/nvidia/gpus")
"""Folder in which NVIDIA's driver describes each GPU."""
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
    needs: tuple[str, ...] = ()
    """Operators that are compiled with this one, and whose functions it calls."""

    @property
    def announcement(self) -> str:
        """The message to the user before the operator is built."""
        return f"building {self.what} once on this machine, about {self.usual}"


def program_of(builder: str) -> str:
    """Return Python code with which a builder of DeepSpeed's, by the name of its class, compiles.

    Symbols for a debugger are left out: they are a quarter of the compiler's time.
    """
    return f"""
from deepspeed.accelerator import get_accelerator
builder = get_accelerator().create_op_builder({builder!r})
arguments = builder.cxx_args
builder.cxx_args = lambda: [argument for argument in arguments() if argument != "-g"]
builder.load(verbose=True)
"""


def use_operator_folder() -> Path:
    """Set the folder of compiled operators, for torch in this process and its children.

    It lies in TORCH_EXTENSIONS_DIR where the user has set that. Call it before operators are
    loaded. Returns the folder. Raises UserError where others may write into the default folder,
    since its content is executed.
    """
    name = _folder_name()
    folder = Path(os.environ.get(FOLDER_VARIABLE) or _private_folder())
    if folder.name != name:
        folder = folder / name
        os.environ[FOLDER_VARIABLE] = str(folder)
    return folder


def _private_folder() -> Path:
    base = Path(tempfile.gettempdir()) / f"pipeline-extensions-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    state = base.lstat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022 or base.is_symlink():
        raise UserError(
            f"{base}: others may write there, and what lies in it would be executed; remove "
            f"it, or set {FOLDER_VARIABLE} to a folder on this machine's own disk"
        )
    return base


def _folder_name() -> str:
    """Return a name for what operators are compiled for: libraries, processor and GPUs."""
    gpus = {_line(gpu, "Model") for gpu in GPU_DESCRIPTIONS.glob("*/information")}
    made_for = [
        *("-".join(platform.libc_ver()), platform.machine()),
        *(os.environ.get(name, "") for name in ("DS_ACCELERATOR", "TORCH_CUDA_ARCH_LIST")),
        _line(Path("/proc/cpuinfo"), "flags", "Features"),
        *sorted(gpus),
    ]
    digest = hashlib.blake2b("\n".join(made_for).encode(), digest_size=4).hexdigest()
    versions = f"torch{version('torch')}-deepspeed{version('deepspeed')}"
    return f"py{platform.python_version()}-{versions}-{digest}"


def _line(path: Path, *starts: str) -> str:
    """Return a file's first line that starts with one of some words; empty without one."""
    with suppress(OSError), path.open() as file:
        return next((line for line in file if line.startswith(starts)), "")
    return ""


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


def load_operator(operator: Operator) -> None:
    """Load an operator into this process where DeepSpeed looks for it; compile it where missing.

    Raises UserError where it cannot be compiled or loaded.
    """
    from deepspeed.ops.op_builder.builder import OpBuilder

    # DeepSpeed's builders return what stands here instead of asking ninja. Source: deepspeed
    # 0.19.8, ops/op_builder/builder.py (load).
    loaded: dict[str, ModuleType] = OpBuilder.__dict__["_loaded_ops"]
    if operator.name in loaded:
        return
    provide_operator(operator)
    for name in (*operator.needs, operator.name):
        library = use_operator_folder() / name / f"{name}.so"
        # Without a library, DeepSpeed was installed with the operator, and finds it itself.
        if library.exists():
            loaded[name] = _import_library(library)


def _import_library(library: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(library.stem, library)
    assert spec is not None and spec.loader is not None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        # The functions of a library are seen by those that are loaded after it.
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except ImportError as error:
        raise UserError(
            f"{library}: does not fit this machine ({error}); remove {library.parent}, and it is "
            "compiled anew"
        ) from error
    return module


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

    # Compile in a process of its own, and name the folder when it is complete. Torch calls ninja by
    # its name, which lies beside this Python whether or not the virtual environment is active.
    building = Path(tempfile.mkdtemp(prefix=f".{operator.name}.building-", dir=folder))
    path = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    process = subprocess.Popen(
        [sys.executable, "-c", operator.program],
        env=os.environ | {FOLDER_VARIABLE: str(building), "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output = process.communicate()[0]
        if process.returncode:
            raise UserError(
                f"{operator.what} could not be compiled on {platform.node()} (exit code "
                f"{process.returncode}): {operator.remedy}.\n{output[-OUTPUT_CHARACTERS:]}"
            )
        for name in (*operator.needs, operator.name):
            # Where DeepSpeed was installed with its operators, nothing is compiled.
            (building / name).mkdir(exist_ok=True)
            shutil.rmtree(folder / name, ignore_errors=True)
            (building / name).rename(folder / name)
    finally:
        process.kill()
        shutil.rmtree(building, ignore_errors=True)
