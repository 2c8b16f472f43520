"""When a process began, by its own account and as seen from outside."""

import subprocess
import sys
import time

import pytest

PROGRAM = """\
import time
from pipeline.store.processes import beginning_of_this_process
first = beginning_of_this_process()
time.sleep(0.02)
print(first, beginning_of_this_process(), time.time())
"""


@pytest.mark.ranks
def test_the_beginning_of_a_process_is_told_to_the_hundredth_of_a_second() -> None:
    before = time.time()
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    first, second, now = map(float, told.stdout.split())
    assert before - 0.02 <= first < now
    assert first == second
