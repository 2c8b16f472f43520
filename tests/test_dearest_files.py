"""`--dearest-files N` names the test files that cost most CPU time."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cpu_seconds import dearest_lines

HERE = Path(__file__).parent
SPIN = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"
DEAR = f"""\
import atexit, subprocess, sys, pytest
@pytest.fixture(scope="module")
def spun():
    {SPIN.format(0.3).replace(chr(10), chr(10) + "    ")}
def test_of_a_fixture(spun): pass
def test_of_a_process(): subprocess.run([sys.executable, "-c", {SPIN.format(0.3)!r}], check=True)
def test_of_a_process_that_lives():
    words = [sys.executable, "-c", {(SPIN.format(0.3) + chr(10) + "print(1, flush=True); input()")!r}]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(server.kill)
    server.stdout.readline()
"""


def test_the_files_that_cost_most_are_named_with_their_sum() -> None:
    lines = dearest_lines({"a": 1.0, "b": 30.25, "c": 2.0}, 2)
    assert lines == [
        "CPU seconds: 33.2 in 3 files, of which these 2 took 32.2",
        "    30.2  b",
        "     2.0  c",
    ]


@pytest.mark.ranks
def test_fixtures_and_processes_count_for_the_file_in_every_worker(tmp_path: Path) -> None:
    (tmp_path / "test_dear.py").write_text(DEAR)
    (tmp_path / "test_cheap.py").write_text("def test_nothing(): pass\n")
    options = ["-q", "-p", "cpu_seconds", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    command = [sys.executable, "-m", "pytest", *options, "--dearest-files", "9", "."]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    printed = {
        file: float(seconds)
        for seconds, file in re.findall(r"^ +([\d.]+)  (\S+)", ended.stdout, re.MULTILINE)
    }
    assert printed["test_dear.py"] >= 0.9
    assert printed["test_cheap.py"] < 0.3
    assert "(importing" in printed
