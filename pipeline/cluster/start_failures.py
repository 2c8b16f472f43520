"""Deciding from the logs of crashed ranks whether another start would crash, too. Free of torch.

Mistakes of the user (UserError) end a job by themselves; this is about all other crashes. If every
rank crashes at the same place before the first step, the cause is not one process or node. An error
of values or code would repeat, and restarts would only delay its message. An error of files,
network, memory or devices may be gone at the next start.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TRACEBACK = "Traceback (most recent call last):"
"""First line of a traceback in a log."""
OUTSIDE = re.compile(
    r"(OS|IO|Permission|FileNotFound|NotADirectory|IsADirectory|FileExists|BlockingIO|Timeout|Interrupted|EOF|"
    r"Connection\w*|BrokenPipe|ProcessLookup|ChildProcess|Memory|Accelerator|OutOfMemory|\w*Dist\w*|\w*NCCL\w*)"
    r"(Error|Expired)?$"
)
"""Types of exceptions whose cause is outside the program."""
UNCLEAR = ("RuntimeError", "SystemError", "Exception")
"""Types that torch raises for both causes; they repeat if they come twice in a row."""


@dataclass(frozen=True)
class StartFailure:
    """The exception with which every rank of a start has ended, and its place."""

    kind: str
    """Type of the exception, without the module."""
    place: str
    """File and line of the innermost frame."""

    def comes_again(self, before: "StartFailure | None") -> bool:
        """Tell whether another start would fail at the same place.

        `before` is the failure of the previous start.
        """
        if OUTSIDE.fullmatch(self.kind):
            return False
        return self.kind not in UNCLEAR or self == before


def common_failure(logs: Sequence[Path]) -> StartFailure | None:
    """Return the failure that all logs have in common, None if any has none or another one."""
    failures = {_failure_in(log) for log in logs}
    if len(failures) != 1:
        return None
    return failures.pop()


def _failure_in(log: Path) -> StartFailure | None:
    """Return the failure in the last traceback of a log, None if there is none.

    A traceback has frames `File "x.py", line 3, in f`, then a line `package.Type: message`.
    """
    try:
        lines = log.read_text(errors="replace").rpartition(TRACEBACK)[2].splitlines()
    except OSError:
        return None
    # The innermost frame is the last one.
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
    return StartFailure(raised.partition(":")[0].rpartition(".")[2], f"{named[1]}:{named[2]}")
