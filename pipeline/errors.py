"""The exceptions that reach the person at the terminal, each with its exit code.

Anything else that escapes a command is a bug: it shows a traceback and exits with 1.
"""

import errno
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

MOST_PROBLEMS = 50
"""Maximum number of problems listed in one message."""


DELETE_FIRST = "Delete it first, or its size alone is looked at and it counts as done. "
"""Begins the remedy for a damaged file that a command makes again; a missing one lacks it."""


def first_of(names: Sequence[str], limit: int) -> str:
    """Return the first `limit` names, separated by commas, and the number of the others."""
    items = first_items(names, limit)
    if len(names) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:-1])} {items[-1]}"


def first_items(items: Sequence[str], limit: int, kind: str = "") -> list[str]:
    """Return the first `limit` items, and `and 7 more files` as the last one where there are more.

    `kind` is the noun: `files` in the example.
    """
    others = len(items) - limit
    if others <= 0:
        return list(items)
    return [*items[:limit], f"and {others:,} more {kind}".rstrip()]


def listed_problems(names_by_problem: Mapping[str, Sequence[str]], limit: int = 5) -> str:
    """Return the problems that have names, each with the first `limit` of its names, as one text."""
    return "; ".join(
        f"{problem}: {first_of(names, limit)}"
        for problem, names in names_by_problem.items()
        if names
    )


def one_line(error: Exception, limit: int = 300) -> str:
    """Return the message of a library's exception on one line of at most `limit` characters."""
    return " ".join(str(error).split())[:limit]


class UserError(Exception):
    """A mistake that the user can correct: printed without a traceback (exit code 2)."""

    exit_code = 2


class ConfigError(UserError):
    """One or more settings are wrong. Every problem names the setting, its value, the rule and the
    remedy."""

    def __init__(self, problems: Sequence[str], where: str = "") -> None:
        self.problems = list(problems)
        count = len(self.problems)
        head = f"{count} problems in {where or 'the settings'}:"
        if count == 1:
            head = f"1 problem in {where or 'the settings'}:"
        lines = first_items([f"- {problem}" for problem in self.problems], MOST_PROBLEMS)
        super().__init__("\n".join([head, *(f"  {line}" for line in lines)]))


class DataError(UserError):
    """A file or folder on disk is missing, broken, stale or not what a stage needs."""


class LeaseError(UserError):
    """Another process holds the folder."""


class RequirementError(UserError):
    """The run finished without a result that the run file requires, such as
    `evaluation.require_*` (exit code 3)."""

    exit_code = 3


class Interrupted(UserError):
    """The command was stopped after saving; run again, it continues from there (exit code 75)."""

    exit_code = 75


class TasksFailed(UserError):
    """Some tasks of a stage failed for reasons that the user can correct; all others are done."""


class OutOfSpace(UserError):
    """A disk or a quota is full."""


class WorkerLost(UserError):
    """A worker process was killed several times while it ran the same task."""


def nearest_multiples(value: int, unit: int) -> str:
    """Return the two positive multiples of `unit` around a value, in words: `16 or 24`."""
    low = max(1, value // unit) * unit
    return f"{low} or {low + unit}"


def nearest_divisors(value: int, number: int, least: int = 1) -> str:
    """Return the divisors of `number` around a value, none below `least`, in words: `4 or 6`."""
    divisors: set[int] = set()
    for divisor in range(1, math.isqrt(number) + 1):
        if number % divisor == 0:
            divisors |= {divisor, number // divisor}
    allowed = sorted(divisor for divisor in divisors if divisor >= least)
    below = [divisor for divisor in allowed if divisor < value]
    above = [divisor for divisor in allowed if divisor > value]
    return " or ".join(map(str, [*below[-1:], *above[:1]]))


def is_missing(error: OSError) -> bool:
    """Tell whether an error means that there is no such file, not that it cannot be read now."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


def out_of_space(error: OSError, where: Path | str) -> OutOfSpace | None:
    """Return the error to raise if `error` means that the disk is full, else None.

    `where` is named in the message where `error` names no file.
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return OutOfSpace(
        f"{error.filename or where}: cannot be written: {os.strerror(error.errno)}. Free some "
        "space, or put paths.data_dir and paths.run_dir on a larger disk; then run the same command "
        "again: what was finished is kept."
    )


def out_of_reach(error: OSError) -> UserError | None:
    """Return the error to raise if access is denied or the file system is in trouble, else None."""
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE):
        return None
    if not error.filename:
        return None
    return UserError(
        f"{error.filename}: {os.strerror(error.errno)}. Correct that, then run the same command "
        "again: what was finished is kept."
    )
