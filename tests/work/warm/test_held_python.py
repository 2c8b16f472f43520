"""Programs in forks of a warm process that has imported nothing heavy."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.errors import UserError
from pipeline.store.start_order import SUPERVISOR_VARIABLE
from pipeline.work.warm import held_python, warm_python
from pipeline.work.warm.held_python import HeldPython
from pipeline.work.warm.visible_command import COMMAND_ROOM
from pipeline.work.warm.warm_python import ForkedProgram, WarmProcessEnded

pytestmark = pytest.mark.ranks

LOOK = """\
import json, os, sys
import psutil
import imported_before
own = psutil.Process()
print(json.dumps({
    "imported in": imported_before.PROCESS, "parent": os.getppid(), "name": __name__,
    "arguments": sys.argv[1:], "input": sys.stdin.read(), "folder": os.getcwd(),
    "environment": dict(os.environ), "session": os.getsid(0), "process": os.getpid(),
    "command line": own.cmdline(), "first environment": own.environ(),
}))
print("a message", file=sys.stderr)
"""
END = """\
import atexit, os, signal, sys, threading
match sys.argv[1]:
    case "done": pass
    case "code": sys.exit(3)
    case "text": sys.exit("a last word")
    case "late":
        atexit.register(print, "at the end", file=sys.stderr)
        threading.Timer(0.1, print, ["a thread"], {"file": sys.stderr}).start()
    case "error": raise ValueError("an error")
    case "signal": os.kill(os.getpid(), signal.SIGKILL)
"""
SLEEP = "import time; print('asleep', flush=True); time.sleep(600)"
COUNT = "import torch; print(torch.get_num_threads())"
ASK = """\
import sys
from pipeline.work.warm.warm_python import run_python
ended = run_python(["a_look", "from a fork"], "read\\n", {"A": "b"})
print(ended.stdout, end="")
print(ended.stderr, end="", file=sys.stderr)
sys.exit(ended.returncode)
"""
HOLD = """\
import os, subprocess, sys
from pathlib import Path
from pipeline.work.warm.held_python import HeldPython
held = HeldPython(["imported_before"], os.environ)
with held, Path(sys.argv[1]).open("wb") as output:
    with open(os.devnull, "rb") as nothing:
        program = held.start(["a_sleep"], os.environ, (nothing, output, output))
        print(held.pid, program.pid, flush=True)
        program.wait()
"""
MODULES = {
    "imported_before": "import os\nPROCESS = os.getpid()\n",
    "with_a_thread": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=[600], daemon=True).start()\n",
    "a_look": LOOK,
    "an_end": END,
    "a_sleep": SLEEP,
    "a_count": COUNT,
    "an_ask": ASK,
    "a_hold": HOLD,
}
END_SECONDS = 20.0


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which Python finds MODULES."""
    folder = tmp_path_factory.mktemp("modules")
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(folder), *sys.path])
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def held(environment: dict[str, str]) -> Iterator[HeldPython]:
    with HeldPython(["imported_before", "psutil"], environment) as held:
        yield held


def start(
    held: HeldPython, folder: Path, *command: str, environment: dict[str, str] | None = None
) -> ForkedProgram:
    (folder / "in").write_text("given\n")
    with (
        (folder / "in").open("rb") as given,
        (folder / "out").open("wb") as output,
        (folder / "err").open("wb") as messages,
    ):
        return held.start(command, environment or dict(os.environ), (given, output, messages))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def seen(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out").read_text())


def test_a_fork_is_as_a_new_python_would_be(
    held: HeldPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {"A": "b", SUPERVISOR_VARIABLE: '{"start": "x"}'}
    program = start(held, tmp_path, "a_look", "one", "two words", environment=variables)
    assert program.wait() == 0
    look = seen(tmp_path)
    assert look["imported in"] == look["parent"] == held.pid
    assert look["process"] == program.pid
    assert look["name"] == "__main__"
    assert look["arguments"] == ["one", "two words"]
    assert look["input"] == "given\n"
    assert look["folder"] == str(tmp_path)
    assert look["environment"] == variables
    assert (tmp_path / "err").read_text() == "a message\n"


def test_others_see_the_command_and_the_supervisor_of_a_fork(
    held: HeldPython, tmp_path: Path
) -> None:
    """So what looks for left-over ranks needs not know how they were started. A longer command
    leaves nothing in the next one."""
    for words, variables in (
        (["a long word " * 100], {SUPERVISOR_VARIABLE: '{"start": "long"}'}),
        (["short"], {SUPERVISOR_VARIABLE: "{}"}),
        ([], {}),
    ):
        assert start(held, tmp_path, "a_look", *words, environment=variables).wait() == 0
        look = seen(tmp_path)
        command = [part for part in look["command line"] if part]
        assert command == [sys.executable, "-m", "a_look", *words]
        shown = look["first environment"][SUPERVISOR_VARIABLE]
        assert shown.rstrip() == variables.get(SUPERVISOR_VARIABLE, "")
    server = [part for part in psutil.Process(held.pid).cmdline() if part]
    assert server == [sys.executable, "-m", "pipeline.work.warm.fork_server"]


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("done", 0, ""),
        ("code", 3, ""),
        ("text", 1, "a last word\n"),
        ("late", 0, "a thread\nat the end\n"),
        ("error", 1, "ValueError: an error\n"),
        ("signal", -signal.SIGKILL, ""),
    ],
)
def test_a_fork_ends_as_python_ends(
    held: HeldPython, tmp_path: Path, how: str, code: int, message: str
) -> None:
    program = start(held, tmp_path, "an_end", how)
    assert program.wait() == program.poll() == program.returncode == code
    assert (tmp_path / "err").read_text().endswith(message)


def test_a_fork_may_ask_for_forks(held: HeldPython, tmp_path: Path) -> None:
    assert start(held, tmp_path, "an_ask").wait() == 0
    look = seen(tmp_path)
    assert look["imported in"] == look["parent"] == held.pid
    assert (look["arguments"], look["input"]) == (["from a fork"], "read\n")
    assert look["environment"] == {"A": "b"}
    assert (tmp_path / "err").read_text() == "a message\n"


def test_without_a_warm_process_the_same_is_a_new_python(environment: dict[str, str]) -> None:
    assert warm_python.parent() is None
    ended = warm_python.run_python(["a_look", "new"], "read\n", environment)
    assert ended.returncode == 0
    look = json.loads(ended.stdout)
    assert look["imported in"] == look["process"]
    assert look["parent"] == os.getpid()
    assert (look["arguments"], look["input"]) == (["new"], "read\n")
    assert ended.stderr == "a message\n"


def test_several_run_at_once_and_each_reports_its_own_end(held: HeldPython, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    sleeper = start(held, tmp_path, "a_sleep")
    assert start(held, tmp_path / "other", "an_end", "code").wait() == 3
    assert sleeper.poll() is None
    os.kill(sleeper.pid, signal.SIGTERM)
    assert sleeper.wait() == -signal.SIGTERM


def test_a_program_may_be_interrupted_at_any_time(held: HeldPython, tmp_path: Path) -> None:
    """Even in the moments between the fork and its first line."""
    for _ in range(20):
        program = start(held, tmp_path, "a_sleep")
        os.kill(program.pid, signal.SIGINT)
        assert program.wait() == 130
        assert (tmp_path / "err").read_text().endswith("KeyboardInterrupt\n")


def test_several_threads_may_wait_for_one_end(held: HeldPython, tmp_path: Path) -> None:
    program = start(held, tmp_path, "a_sleep")
    with ThreadPoolExecutor(4) as threads:
        codes = [threads.submit(program.wait) for _ in range(4)]
        wait_for(lambda: (tmp_path / "out").read_text())
        assert program.poll() is None
        os.kill(program.pid, signal.SIGTERM)
        assert [code.result(END_SECONDS) for code in codes] == [-signal.SIGTERM] * 4


def test_a_command_that_cannot_be_shown_is_refused(held: HeldPython, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"longer than the 16,384 bytes .* shorten paths"):
        start(held, tmp_path, "an_end", "x" * COMMAND_ROOM)


def test_the_threads_of_a_fork_are_those_of_its_environment(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """OpenMP has read the variable before: the warm process is imported with one thread."""
    with HeldPython(["torch"], environment) as held:
        for text, threads in (("3", "3"), ("1", "1"), ("", "1"), ("0", "1")):
            counted = {**environment, "OMP_NUM_THREADS": text}
            assert start(held, tmp_path, "a_count", environment=counted).wait() == 0
            assert (tmp_path / "out").read_text() == f"{threads}\n"


def test_a_process_with_threads_is_not_forked(environment: dict[str, str], tmp_path: Path) -> None:
    with (
        HeldPython(["with_a_thread"], environment) as held,
        pytest.raises(WarmProcessEnded, match=r"2 threads run after the imports") as refused,
    ):
        start(held, tmp_path, "an_end", "done")
    assert refused.value.exit_code == 1


def test_an_import_that_fails_is_in_the_message(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with HeldPython(["no_such_module"], environment) as held:
        with pytest.raises(WarmProcessEnded, match="No module named 'no_such_module'"):
            start(held, tmp_path, "an_end", "done")
        # Who waits for the imports sees it, too, each time.
        for _ in range(2):
            with pytest.raises(WarmProcessEnded, match="No module named 'no_such_module'"):
                held.is_ready(END_SECONDS)
        assert held.has_ended()


def test_its_holder_can_wait_for_the_imports_or_leave(environment: dict[str, str]) -> None:
    with HeldPython(["imported_before"], environment) as held:
        assert held.is_ready(END_SECONDS)
        assert held.is_ready(0)
        assert not held.has_ended()
    assert held.has_ended()

    # Who leaves during an import of ten minutes does not wait for it.
    began = time.monotonic()
    with HeldPython(["a_sleep"], environment) as held:
        assert not held.is_ready(0.01)
    assert held.has_ended()
    assert time.monotonic() - began < held_python.END_SECONDS


def test_who_leaves_ends_all_forks(environment: dict[str, str], tmp_path: Path) -> None:
    with HeldPython(["imported_before"], environment) as held:
        program = start(held, tmp_path, "a_sleep")
        wait_for(lambda: (tmp_path / "out").read_text())
    assert program.poll() == -signal.SIGKILL
    wait_for(lambda: not psutil.pid_exists(program.pid))


@pytest.mark.parametrize("who", ["holder", "warm process"])
def test_kill_minus_nine_leaves_no_process(
    environment: dict[str, str], tmp_path: Path, who: str
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-m", "a_hold", str(tmp_path / "out")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    warm, program = map(int, holder.stdout.readline().split())
    wait_for(lambda: (tmp_path / "out").read_text())
    os.kill({"holder": holder.pid, "warm process": warm}[who], signal.SIGKILL)
    # Who was left with a dead warm process learns that its program was killed.
    assert holder.wait(END_SECONDS) == {"holder": -signal.SIGKILL, "warm process": 0}[who]
    wait_for(lambda: not psutil.pid_exists(warm) and not psutil.pid_exists(program))
    holder.stdout.close()
