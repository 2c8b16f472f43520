"""Whether ranks that died before their first step would die again: read from the tracebacks in
their logs. Free of torch.

A rank that refuses (UserError) says so itself. What is read here is the rest: a traceback in the
same place on every rank, before any step, is no accident of one process or node. A mistake of
values or of the code would come again, and starting again only delays its message; what hangs on
the world outside (files, network, memory, devices) may be gone the next time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TRACEBACK = "Traceback (most recent call last):"
OUTSIDE = re.compile(
    r"(OS|IO|Permission|FileNotFound|NotADirectory|IsADirectory|FileExists|BlockingIO|Timeout|Interrupted|EOF|"
    r"Connection\w*|BrokenPipe|ProcessLookup|ChildProcess|Memory|Accelerator|OutOfMemory|\w*Dist\w*|\w*NCCL\w*)"
    r"(Error|Expired)?$"
)
"""Types of exceptions that tell of the world outside the program."""
UNCLEAR = ("RuntimeError", "SystemError", "Exception")
"""Types that torch raises for both: the second time in a row decides."""


@dataclass(frozen=True)
class Failure:
    """Where and with what every rank has ended."""

    kind: str
    """Type of the exception, without its module."""
    place: str
    """File and line of the innermost frame."""

    def comes_again(self, before: "Failure | None") -> bool:
        """Tell whether another start would end there, too; `before` is how the start before this
        one ended."""
        if OUTSIDE.fullmatch(self.kind):
            return False
        return self.kind not in UNCLEAR or self == before


def common_failure(logs: Sequence[Path]) -> Failure | None:
    """Return the failure that the logs of all ranks end with, None where any of them has none or
    another one."""
    found = {_failure_in(log) for log in logs}
    return found.pop() if len(found) == 1 else None


def _failure_in(log: Path) -> Failure | None:
    """Read the last traceback of a log: frames `File "x.py", line 3, in f`, then `package.Type:
    message`."""
    try:
        lines = log.read_text(errors="replace").rpartition(TRACEBACK)[2].splitlines()
    except OSError:
        return None
    frames = [
        index for index, line in enumerate(lines) if re.match(r'\s+File ".+", line \d+', line)
    ]
    if not frames:
        return None
    last = frames[-1]
    named = re.match(r'\s+File "(.+)", line (\d+)', lines[last])
    raised = next(
        (line for line in lines[last + 1 :] if re.match(r"[A-Za-z_][\w.]*(:|$)", line)), None
    )
    if named is None or raised is None:
        return None
    return Failure(raised.partition(":")[0].rpartition(".")[2], f"{named[1]}:{named[2]}")
