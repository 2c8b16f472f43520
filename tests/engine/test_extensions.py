"""Operators compiled once on a machine: by one of several processes, never half, and not stopped by
locks of the dead."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from deepspeed.ops.op_builder.builder import OpBuilder

from pipeline.config.run_config import Optimizer
from pipeline.engine import extensions
from pipeline.engine.extensions import Operator
from pipeline.engine.operators import ASYNC_IO, needed_operators
from pipeline.engine.optimizers.adamw import CPU_ADAM, FUSED_ADAM
from pipeline.errors import UserError

FAKE = """\
import os, sys, time
from pathlib import Path
folder = Path(os.environ["TORCH_EXTENSIONS_DIR"]) / "fake"
folder.mkdir()
(folder / "lock").touch()
(folder / "fake.so").write_text("half")
with open({log!r}, "a") as log:
    log.write("built\\n")
time.sleep({seconds})
(folder / "fake.so").write_text("whole")
(folder / "lock").unlink()
"""


def fake(folder: Path, seconds: float = 0.0, program: str = FAKE) -> Operator:
    """An operator whose compiler is a few lines, which notes each start in `folder/builds`."""
    return Operator(
        "fake",
        "a fake",
        program.format(log=str(folder / "builds"), seconds=seconds),
        "no time",
        "give up",
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(extensions.FOLDER_VARIABLE, str(tmp_path / "extensions"))
    return tmp_path


def start(operator: Operator) -> subprocess.Popen[bytes]:
    code = f"from pipeline.engine.extensions import *; provide_operator({operator!r})"
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.02)


@pytest.mark.ranks
def test_one_process_builds_and_the_others_wait(folder: Path) -> None:
    operator = fake(folder, seconds=0.5)
    processes = [start(operator) for _ in range(3)]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert (folder / "builds").read_text() == "built\n"
    assert [path.name for path in extensions.operator_folder().iterdir() if path.is_dir()] == [
        "fake"
    ]
    assert (extensions.operator_folder() / "fake" / "fake.so").read_text() == "whole"


@pytest.mark.ranks
def test_after_a_killed_build_the_next_one_builds_anew(folder: Path) -> None:
    process = start(fake(folder, seconds=60))
    wait_for(folder / "builds")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(extensions.operator_folder().glob(".fake.building-*/fake/lock")), (
        "it was in the middle"
    )
    assert not extensions.is_operator_built("fake")
    extensions.provide_operator(fake(folder))
    assert (extensions.operator_folder() / "fake" / "fake.so").read_text() == "whole"
    assert not list(extensions.operator_folder().glob(".fake.building-*"))


COMPILED = """
import os, subprocess, sysconfig
from pathlib import Path
for name, uses in (("pipeline_first", ""), ("pipeline_second", "int value(void);")):
    folder = Path(os.environ["TORCH_EXTENSIONS_DIR"]) / name
    folder.mkdir()
    source = folder / "source.c"
    returned = "PyLong_FromLong(value())" if uses else "PyLong_FromLong(1)"
    source.write_text(f'''
#include <Python.h>
{uses or "int value(void) { return 42; }"}
static PyObject *call(PyObject *module, PyObject *nothing) {{ return {returned}; }}
static PyMethodDef methods[] = {{{{"call", call, METH_NOARGS, ""}}, {{NULL}}}};
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "{name}", "", -1, methods}};
PyMODINIT_FUNC PyInit_{name}(void) {{ return PyModule_Create(&module); }}
''')
    include = sysconfig.get_paths()["include"]
    command = ["cc", "-shared", "-fPIC", f"-I{include}", str(source), "-o"]
    subprocess.run([*command, str(folder / f"{name}.so")], check=True)
"""
"""Compiles two libraries, the second of which calls a function of the first."""


@pytest.mark.ranks
def test_deepspeed_finds_an_operator_and_the_operator_what_it_depends_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = replace(
        fake(folder), name="pipeline_second", program=COMPILED, dependencies=("pipeline_first",)
    )
    loaded: dict[str, Any] = {}
    monkeypatch.setattr(OpBuilder, "_loaded_ops", loaded)
    extensions.load_operator(operator)
    assert loaded["pipeline_second"].call() == 42
    assert sorted(loaded) == ["pipeline_first", "pipeline_second"]

    class Builder(OpBuilder):
        def absolute_name(self) -> None:
            raise AssertionError("DeepSpeed would compile")

        def sources(self) -> None:
            raise AssertionError("DeepSpeed would compile")

    assert Builder("pipeline_second").load() is loaded["pipeline_second"]


def test_where_deepspeed_was_installed_with_an_operator_it_loads_it_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = folder / "installed" / "deepspeed"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "git_version_info_installed.py").write_text("installed_ops={'fake': True}")
    monkeypatch.delitem(sys.modules, "deepspeed")
    monkeypatch.syspath_prepend(package.parent)
    assert extensions.is_operator_built("fake")
    assert not extensions.is_operator_built("cpu_adam")
    extensions.provide_operator(fake(folder))
    assert not (folder / "builds").exists()


@pytest.mark.ranks
def test_a_library_that_cannot_be_loaded_is_named(folder: Path) -> None:
    operator = fake(folder)
    extensions.provide_operator(operator)
    with pytest.raises(UserError, match=r"fake.so: cannot be loaded .*; remove "):
        extensions.load_operator(operator)


@pytest.mark.ranks
def test_a_folder_in_which_one_may_not_write_serves_what_is_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = fake(folder)
    extensions.provide_operator(operator)

    # Root may write anywhere, so that the folder's mode would not do.
    opened = Path.open

    def refused(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.suffix == ".lock":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    extensions.provide_operator(operator)
    with pytest.raises(UserError, match="Permission denied; set TORCH_EXTENSIONS_DIR to a folder"):
        extensions.provide_operator(replace(operator, name="another"))


@pytest.mark.ranks
def test_a_failing_compiler_is_shown_with_the_remedy(folder: Path) -> None:
    operator = fake(folder, program='print("no such header"); raise SystemExit(3)')
    with pytest.raises(UserError, match=r"exit code 3\): give up.\nno such header"):
        extensions.provide_operator(operator)
    assert not extensions.is_operator_built("fake")


def test_the_default_is_a_private_folder_on_this_machines_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(extensions.FOLDER_VARIABLE, "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    extensions.use_operator_folder()
    folder = extensions.operator_folder()
    assert folder.parent == tmp_path / f"pipeline-extensions-{os.getuid()}"
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert os.environ[extensions.FOLDER_VARIABLE] == str(folder)
    folder.parent.chmod(0o777)
    monkeypatch.setenv(extensions.FOLDER_VARIABLE, "")
    with pytest.raises(UserError, match="others may write there"):
        extensions.operator_folder()
    monkeypatch.setenv(extensions.FOLDER_VARIABLE, str(folder))
    with pytest.raises(UserError, match="others may write there"):
        extensions.operator_folder()


def test_an_operator_is_for_the_libraries_the_processor_and_the_gpus_whatever_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = extensions.operator_folder()
    assert found.parent == folder / "extensions", "a folder of the user holds one for each machine"
    assert found.name.startswith(f"py{platform.python_version()}-torch{version('torch')}-deepspeed")

    monkeypatch.setattr(sys, "prefix", "/another/environment")
    assert extensions.operator_folder() == found
    monkeypatch.setenv(extensions.FOLDER_VARIABLE, str(found))
    assert extensions.operator_folder() == found, "a parent has set the variable"

    # One kind of GPU, whichever is visible; several kinds, of which the visible ones decide.
    nvidia = folder / "gpus"
    monkeypatch.setitem(extensions.GPU_FOLDERS, "nvidia", nvidia)
    seen = {found}
    for number, kind in enumerate(["one", "one", "another"]):
        (nvidia / f"0000:0{number}").mkdir(parents=True)
        (nvidia / f"0000:0{number}" / "information").write_text(
            f"Model: \t {kind}\nIRQ: {number}\n"
        )
        for visible in "01":
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
            seen.add(extensions.operator_folder())
    assert len(seen) == 1 + 1 + 2
    assert {path.parent for path in seen} == {folder / "extensions"}


@pytest.mark.ranks
def test_an_operator_is_built_with_the_ninja_beside_this_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the virtual environment is active."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    program = "import shutil; print(shutil.which('ninja')); raise SystemExit(1)"
    beside = Path(sys.executable).parent / "ninja"
    with pytest.raises(UserError, match=f"give up.\n{beside}"):
        extensions.provide_operator(fake(folder, program=program))


def test_what_a_template_needs() -> None:
    def needed(**zero: object) -> list[Operator]:
        return needed_operators({"zero_optimization": {"stage": 3, **zero}}, adamw)

    adamw = Optimizer(kind="adamw", peak_learning_rate=1e-3)

    assert (
        needed()
        == needed(offload_param={"device": "cpu"})
        == needed(offload_optimizer={"device": "none"})
        == []
    )
    assert needed(offload_optimizer={"device": "cpu"}) == [CPU_ADAM]
    assert needed(offload_optimizer={"device": "nvme"}) == [CPU_ADAM, ASYNC_IO]
    assert needed(offload_param={"device": "nvme"}) == [ASYNC_IO]
    adamw = Optimizer(kind="adamw", peak_learning_rate=1e-3, adamw_kernel="deepspeed")
    assert needed() == [FUSED_ADAM]


@pytest.mark.ranks
@pytest.mark.full
def test_the_real_optimizer_builds_after_a_kill_and_a_planted_lock(folder: Path) -> None:
    process = start(CPU_ADAM)
    end = time.monotonic() + 60
    while not list(extensions.operator_folder().glob(".cpu_adam.building-*/cpu_adam/build.ninja")):
        assert time.monotonic() < end
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    extensions.provide_operator(CPU_ADAM)
    (extensions.operator_folder() / "cpu_adam" / "lock").touch()
    probe = f"""
import json, torch
from pipeline.engine.extensions import *
load_operator({CPU_ADAM!r})
from deepspeed.ops.adam import DeepSpeedCPUAdam
parameter = torch.nn.Parameter(torch.ones(1))
adam = DeepSpeedCPUAdam([parameter], lr=0.5, weight_decay=0)
parameter.grad = torch.ones(1)
adam.step()
print(json.dumps(parameter.tolist()))
"""
    found = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=600
    )
    # Adam's first step is the rate.
    assert json.loads(found.stdout.splitlines()[-1]) == pytest.approx([0.5], abs=1e-5)
