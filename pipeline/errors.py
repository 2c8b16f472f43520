"""The exceptions that reach the person at the terminal, each with its exit code.

Anything else that escapes a command is a bug: it shows a traceback and exits with 1.
"""

import errno
import math
import os
from collections.abc import Sequence

MOST_PROBLEMS = 50
"""Shown in one message."""


def first_of(names: Sequence[str], most: int) -> str:
    """Return the first names of a list in words, and how many more there are."""
    shown = first_items(names, most)
    if len(names) <= most:
        return ", ".join(shown)
    return f"{', '.join(shown[:-1])} {shown[-1]}"


def first_items(items: Sequence[str], most: int, kind: str = "") -> list[str]:
    """Return the first items of a list and, where there are more, `and 7 more files` as the last
    one; `files` is the kind."""
    others = len(items) - most
    if others <= 0:
        return list(items)
    return [*items[:most], f"and {others:,} more {kind}".rstrip()]


def one_line(error: Exception, most: int = 300) -> str:
    """Return what an exception of a library says on one line of at most so many characters."""
    return " ".join(str(error).split())[:most]


class UserError(Exception):
    """Something the user can put right: shown as a message, without a traceback (exit code 2)."""

    exit_code = 2


class ConfigError(UserError):
    """One or more settings are wrong. Every problem names the setting, its value, the rule and the
    remedy."""

    def __init__(self, problems: Sequence[str], where: str = "") -> None:
        self.problems = list(problems)
        head = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        lines = [f"  - {problem}" for problem in self.problems[:MOST_PROBLEMS]]
        if len(self.problems) > MOST_PROBLEMS:
            lines.append(f"  and {len(self.problems) - MOST_PROBLEMS:,} more")
        super().__init__("\n".join([f"{head} in {where or 'the settings'}:", *lines]))


class DataError(UserError):
    """A file or folder on disk is missing, broken, stale or not what a stage needs."""


class LeaseError(UserError):
    """Another process holds the folder."""


class RequirementError(UserError):
    """The run finished, and a result that the run file demands (`evaluation.require_*`) was not
    reached."""

    exit_code = 3


class Interrupted(UserError):
    """Stopped by a signal after saving what was done: the same command goes on from there (exit
    code 75)."""

    exit_code = 75


class TasksFailed(UserError):
    """Some tasks of a stage failed, each for a reason that the user can put right; all others are
    done."""


class OutOfSpace(UserError):
    """A disk or a quota is full."""


class WorkerLost(UserError):
    """A worker process was killed again and again over the same task."""


def nearest_multiples(value: int, unit: int) -> str:
    """Return what a value that is no multiple of `unit` could be instead: the multiples around it,
    both above 0."""
    low = max(1, value // unit) * unit
    return f"{low} or {low + unit}"


def nearest_divisors(value: int, number: int, least: int = 1) -> str:
    """Return what a value that does not divide `number` could be instead: the divisors around it,
    none below `least`."""
    divisors = sorted(
        {n for i in range(1, math.isqrt(number) + 1) if number % i == 0 for n in (i, number // i)}
    )
    below = [n for n in divisors if least <= n < value][-1:]
    return " or ".join(map(str, [*below, *[n for n in divisors if n > max(value, least - 1)][:1]]))


def is_missing(error: OSError) -> bool:
    """Tell whether an error says that there is no such file, not that it may not or cannot be read
    just now."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


def out_of_space(error: OSError, folder: object) -> OutOfSpace | None:
    """Return what to tell the user if `error` says that the disk is full, else None."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return OutOfSpace(
        f"{error.filename or folder}: cannot be written: {os.strerror(error.errno)}. Free some "
        "space, or put paths.data_dir "
        "and paths.run_dir on a larger disk; then run the same command again: what was finished "
        "is kept."
    )


def out_of_reach(error: OSError) -> UserError | None:
    """Return what to tell the user if `error` says that a file may not be used, or that its file
    system is in trouble."""
    if (
        error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE)
        or not error.filename
    ):
        return None
    return UserError(
        f"{error.filename}: {os.strerror(error.errno)}. Mend that, then run the same command "
        "again: what was finished is kept."
    )
