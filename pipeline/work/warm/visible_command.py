"""Make a forked process look to others like the program that it runs.

`ps`, psutil and the search for left-over ranks read the command line and the first environment of a
process from `/proc`. A forked process shows those of its parent. Linux serves both from the memory
of the process itself, so the process can overwrite them in place, within the room that they had
when the parent was started.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError

COMMAND_ROOM = 16_384
"""Bytes that the command line of a parent is padded to."""
VARIABLE_ROOM = 1024
"""Bytes that a variable which is to be overwritten is padded to."""
FIRST_FIELD = 3
"""Number of the first field of /proc/self/stat after the name in parentheses."""
ARG_START = 48
"""Number of the field that begins the four addresses. Source: proc_pid_stat(5)."""
PADDING = "-"


class _Block(NamedTuple):
    """Memory of this process."""

    start: int
    """Address of the first byte."""
    size: int
    """Bytes."""


def show_command(command: Sequence[str]) -> None:
    """Show `command` as the command line of this process.

    Raises UserError where the command is longer than that of `padded_command`.
    """
    refuse_long_command(command)
    block = _command_and_environment()[0]
    assert block.size >= COMMAND_ROOM, "the process was started with `padded_command`"
    ctypes.memmove(block.start, _joined(command).ljust(block.size, b"\0"), block.size)


def show_variable(name: str, value: str) -> None:
    """Show `value` as the value of a variable in the first environment of this process.

    What this process reads from `os.environ` does not change. Raises UserError where the variable
    was not there when the process was started, or had less room.
    """
    block = _command_and_environment()[1]
    text = ctypes.string_at(block.start, block.size)
    label = b"\0" + name.encode() + b"="
    begin = (b"\0" + text).find(label)
    if begin < 0:
        raise UserError(f"{name} was no variable when this process was started")
    first = begin + len(label) - 1
    room = text.index(b"\0", first) - first
    written = value.encode()
    if len(written) > room:
        raise UserError(f"{name} has {len(written):,} bytes, and room for {room:,}")
    # Blanks and not zeros, which would end the variable: the next value needs its room.
    ctypes.memmove(block.start + first, written.ljust(room), room)


def refuse_long_command(command: Sequence[str]) -> None:
    """Raise UserError where a command is longer than COMMAND_ROOM."""
    size = len(_joined(command))
    if size > COMMAND_ROOM:
        raise UserError(
            f"a command line of {size:,} bytes is longer than the {COMMAND_ROOM:,} bytes that a warm "
            f"process can show; shorten paths and settings: {' '.join(command)[:200]}..."
        )


def padded_command(command: Sequence[str]) -> list[str]:
    """Return a command with one more argument, which makes room for longer ones."""
    return [*command, PADDING * COMMAND_ROOM]


def room_for_variable() -> str:
    """Return the value of a variable that `show_variable` is to overwrite."""
    return PADDING * VARIABLE_ROOM


def _command_and_environment() -> tuple[_Block, _Block]:
    """Return where the command line and the first environment of this process lie. Needs Linux."""
    text = Path("/proc/self/stat").read_text()
    # The name in parentheses may hold blanks.
    fields = text.rpartition(")")[2].split()
    index = ARG_START - FIRST_FIELD
    command_start, command_end, variables_start, variables_end = map(int, fields[index : index + 4])
    return (
        _Block(command_start, command_end - command_start),
        _Block(variables_start, variables_end - variables_start),
    )


def _joined(command: Sequence[str]) -> bytes:
    """Return a command line as /proc shows it: a zero after each argument."""
    return b"".join(part.encode() + b"\0" for part in command)
