"""Operators compiled once on a machine: by one of several processes, never half, and not stopped by
locks of the dead."""

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
    assert [path.name for path in extensions.use_operator_folder().iterdir() if path.is_dir()] == [
        "fake"
    ]
    assert (extensions.use_operator_folder() / "fake" / "fake.so").read_text() == "whole"


@pytest.mark.ranks
def test_after_a_killed_build_the_next_one_builds_anew(folder: Path) -> None:
    process = start(fake(folder, seconds=60))
    wait_for(folder / "builds")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(extensions.use_operator_folder().glob(".fake.building-*/fake/lock")), (
        "it was in the middle"
    )
    assert not extensions.is_operator_built(fake(folder))
    extensions.provide_operator(fake(folder))
    assert (extensions.use_operator_folder() / "fake" / "fake.so").read_text() == "whole"
    assert not list(extensions.use_operator_folder().glob(".fake.building-*"))


@pytest.mark.ranks
def test_what_an_operator_needs_is_built_with_it_and_seen_from_it(folder: Path) -> None:
    program = """
import os
from pathlib import Path
folder = Path(os.environ["TORCH_EXTENSIONS_DIR"])
for name in ("first", "second"):
    (folder / name).mkdir()
"""
    operator = replace(fake(folder, program=program), name="second", needs=("first",))
    extensions.provide_operator(operator)
    assert extensions.is_operator_built(operator)
    made = [path.name for path in (extensions.use_operator_folder()).iterdir() if path.is_dir()]
    assert sorted(made) == ["first", "second"]


@pytest.mark.ranks
def test_where_deepspeed_was_installed_with_an_operator_it_loads_it_itself(folder: Path) -> None:
    operator = fake(folder, program="")
    extensions.load_operator(operator)
    assert extensions.is_operator_built(operator)
    assert "fake" not in OpBuilder._loaded_ops


@pytest.mark.ranks
def test_a_library_that_does_not_fit_is_named(folder: Path) -> None:
    operator = fake(folder)
    extensions.provide_operator(operator)
    with pytest.raises(UserError, match=r"fake.so: does not fit this machine .*; remove "):
        extensions.load_operator(operator)


@pytest.mark.ranks
def test_a_failing_compiler_is_shown_with_the_remedy(folder: Path) -> None:
    operator = fake(folder, program='print("no such header"); raise SystemExit(3)')
    with pytest.raises(UserError, match=r"exit code 3\): give up.\nno such header"):
        extensions.provide_operator(operator)
    assert not extensions.is_operator_built(operator)


def test_the_default_is_a_private_folder_on_this_machines_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(extensions.FOLDER_VARIABLE, "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = extensions.use_operator_folder()
    assert folder.parent == tmp_path / f"pipeline-extensions-{os.getuid()}"
    assert folder == extensions.use_operator_folder(), "as a child of this process finds it"
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert os.environ[extensions.FOLDER_VARIABLE] == str(folder)
    folder.parent.chmod(0o777)
    monkeypatch.setenv(extensions.FOLDER_VARIABLE, "")
    with pytest.raises(UserError, match="others may write there"):
        extensions.use_operator_folder()


def test_an_operator_is_for_the_libraries_the_processor_and_the_gpus_whatever_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = extensions.use_operator_folder()
    assert found.parent == folder / "extensions", "a folder of the user holds one for each machine"
    assert found.name.startswith(f"py{platform.python_version()}-torch{version('torch')}-deepspeed")

    monkeypatch.setattr(sys, "prefix", "/another/environment")
    assert extensions.use_operator_folder() == found

    gpus = folder / "gpus"
    (gpus / "0000:01").mkdir(parents=True)
    (gpus / "0000:01" / "information").write_text("Model: \t GPU of one kind\nIRQ: 12\n")
    monkeypatch.setattr(extensions, "GPU_DESCRIPTIONS", gpus)
    assert extensions.use_operator_folder() != found


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
    while not list(
        extensions.use_operator_folder().glob(".cpu_adam.building-*/cpu_adam/build.ninja")
    ):
        assert time.monotonic() < end
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    extensions.provide_operator(CPU_ADAM)
    (extensions.use_operator_folder() / "cpu_adam" / "lock").touch()
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
