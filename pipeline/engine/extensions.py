"""Compile DeepSpeed's operators before they are used, once for each kind of machine, and load them.

By default DeepSpeed compiles an operator at its first use, in a folder below $HOME, under a lock
that is a mere file: a process killed meanwhile leaves the file, and all later processes wait for
ever. Here an operator is compiled in a temporary folder, which is renamed when it is complete,
under a lock that the system releases when its holder dies. The folder is on the machine's own disk,
or in TORCH_EXTENSIONS_DIR.

Whenever DeepSpeed loads an operator it runs ninja, which takes a CPU second in each rank, and which
compiles again if the virtual environment is another one. Here the folder's name tells what the
operators in it were compiled for, and a compiled operator is loaded directly. Free of torch until
an operator is loaded.
"""

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import runpy
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
FOLDER_NAME = re.compile(r"py[\d.]+-torch.+-deepspeed.+-[0-9a-f]{8}")
"""Names of the folders of operators that fit one kind of machine."""
GPU_FOLDERS = {
    "nvidia": Path("/proc/driver/nvidia/gpus"),
    "amd": Path("/sys/class/kfd/kfd/topology/nodes"),
}
"""Folders in which the drivers describe each GPU."""
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
    dependencies: tuple[str, ...] = ()
    """Operators that are compiled with this one, and whose functions it calls."""

    @property
    def announcement(self) -> str:
        """The message to the user before the operator is built."""
        return f"building {self.what}, once for this kind of machine: about {self.usual}"


def compile_program(builder: str) -> str:
    """Return a program that compiles the operator of a DeepSpeed builder class.

    It leaves out symbols for debuggers, which take a quarter of the compiler's time.
    """
    return f"""
from deepspeed.accelerator import get_accelerator
builder = get_accelerator().create_op_builder({builder!r})
arguments = builder.cxx_args
builder.cxx_args = lambda: [argument for argument in arguments() if argument != "-g"]
builder.load(verbose=True)
"""


def use_operator_folder() -> None:
    """Let torch, in this process and its children, keep its own extensions beside the operators.

    Raises UserError as `operator_folder` does.
    """
    os.environ[FOLDER_VARIABLE] = str(operator_folder())


def operator_folder() -> Path:
    """Return the folder of the operators that fit this machine; it need not exist yet.

    Raises UserError where others may write into the default folder, since its content is executed.
    """
    private = Path(tempfile.gettempdir()) / f"pipeline-extensions-{os.getuid()}"
    base = Path(os.environ.get(FOLDER_VARIABLE) or private)
    # The process that started this one may have set the variable to such a folder.
    if FOLDER_NAME.fullmatch(base.name):
        base = base.parent
    if base == private:
        _create_private(private)
    return base / _folder_name()


def _create_private(folder: Path) -> None:
    """Create a folder for this user alone, or check that it is one."""
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022 or folder.is_symlink():
        raise UserError(
            f"{folder}: others may write there, and what lies in it would be executed; remove "
            f"it, or set {FOLDER_VARIABLE} to a folder on this machine's own disk"
        )


def _folder_name() -> str:
    """Return a name for what operators are compiled for: libraries, processor and GPUs.

    Of several kinds of GPU, those that are visible decide for what DeepSpeed compiles.
    """
    gpus = {_line(path, "Model", "gfx_target_version") for path in _gpu_descriptions()}
    # AMD's driver describes processors, too: as version 0.
    gpus -= {"", "gfx_target_version 0\n"}
    deciding = ["DS_ACCELERATOR", "TORCH_CUDA_ARCH_LIST"]
    if len(gpus) > 1:
        deciding += ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"]
    key = [
        *platform.libc_ver(),
        platform.machine(),
        _line(Path("/proc/cpuinfo"), "flags", "Features"),
        *sorted(gpus),
        *(os.environ.get(name, "") for name in deciding),
    ]
    digest = hashlib.blake2b("\n".join(key).encode(), digest_size=4).hexdigest()
    versions = f"torch{version('torch')}-deepspeed{version('deepspeed')}"
    return f"py{platform.python_version()}-{versions}-{digest}"


def _gpu_descriptions() -> list[Path]:
    """Return the files in which the drivers of NVIDIA and AMD describe each GPU."""
    return [
        *GPU_FOLDERS["nvidia"].glob("*/information"),
        *GPU_FOLDERS["amd"].glob("*/properties"),
    ]


def _line(path: Path, *starts: str) -> str:
    """Return a file's first line that starts with one of some words; empty without one."""
    with suppress(OSError), path.open() as file:
        return next((line for line in file if line.startswith(starts)), "")
    return ""


def is_operator_built(name: str) -> bool:
    """Tell whether an operator has been compiled for this machine, or installed with DeepSpeed."""
    return _is_installed(name) or (operator_folder() / name).is_dir()


def _is_installed(name: str) -> bool:
    """Tell whether DeepSpeed was installed with an operator (DS_BUILD_OPS=1): it loads it itself.

    Reads the list that DeepSpeed's setup has written, without importing DeepSpeed.
    """
    deepspeed = importlib.util.find_spec("deepspeed")
    if deepspeed is None or deepspeed.origin is None:
        return False
    written = Path(deepspeed.origin).with_name("git_version_info_installed.py")
    if not written.exists():
        return False
    return bool(runpy.run_path(str(written)).get("installed_ops", {}).get(name))


def provide_operator(operator: Operator) -> None:
    """Compile an operator unless it has been compiled for this machine.

    Where several processes call it, one compiles and the others wait. Raises UserError where
    nothing can be written, or, with the end of the compiler's output, where it fails.
    """
    if is_operator_built(operator.name):
        return
    folder = operator_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{operator.name}.lock"):
            if not is_operator_built(operator.name):
                _build(operator, folder)
    except OSError as error:
        raise UserError(
            f"{operator.what} cannot be compiled in {folder}: {error.strerror}; set "
            f"{FOLDER_VARIABLE} to a folder in which you may write"
        ) from error


def load_operator(operator: Operator) -> None:
    """Load an operator into this process, where DeepSpeed finds it; compile it if need be.

    Raises UserError where it cannot be compiled or loaded.
    """
    from deepspeed.ops.op_builder.builder import OpBuilder

    # DeepSpeed's builders return what stands here instead of running ninja. Source: deepspeed
    # 0.19.8, ops/op_builder/builder.py (load).
    loaded: dict[str, ModuleType] = OpBuilder.__dict__["_loaded_ops"]
    if operator.name in loaded or _is_installed(operator.name):
        return
    provide_operator(operator)
    folder = operator_folder()
    for name in operator.dependencies:
        loaded[name] = _import_library(folder, name)
        # Its functions are to be found by the operator's library.
        ctypes.CDLL(loaded[name].__file__, mode=ctypes.RTLD_GLOBAL)
    loaded[operator.name] = _import_library(folder, operator.name)


def _import_library(folder: Path, name: str) -> ModuleType:
    library = folder / name / f"{name}.so"
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None and spec.loader is not None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise UserError(
            f"{library}: cannot be loaded ({error}); remove {library.parent}, and it is compiled "
            "again"
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
        built = [building / name for name in (*operator.dependencies, operator.name)]
        if process.returncode or not all(path.is_dir() for path in built):
            raise UserError(
                f"{operator.what} could not be compiled on {platform.node()} (exit code "
                f"{process.returncode}): {operator.remedy}.\n{output[-OUTPUT_CHARACTERS:]}"
            )
        for path in built:
            shutil.rmtree(folder / path.name, ignore_errors=True)
            path.rename(folder / path.name)
    finally:
        process.kill()
        shutil.rmtree(building, ignore_errors=True)
