"""Values that a run file may hold: paths, numbers of tokens and of bytes; and what each section is."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError

from pipeline.config.yaml_files import FromCommandLine

VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)
"""`$NAME` or `${NAME}`, as `os.path.expandvars` takes them."""


def located_by(resolve: Callable[[str | Path, Path], Path]) -> BeforeValidator:
    """Return the rule of a field whose value becomes `resolve(value, folder of the run file)`.

    `resolve` raises ValueError for what it refuses. What is no path is left to the field's own
    rule.
    """

    def locate(value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, (str, Path)):
            return value
        context: dict[str, Path] = info.context or {}
        try:
            return resolve(value, context.get("base", Path.cwd()))
        except ValueError as error:
            raise PydanticCustomError("location", "{why}", {"why": str(error)}) from None

    return BeforeValidator(locate)


def folder_of(location: str | Path, base: Path) -> Path:
    """Return the folder that a location is relative to: `base`, or the current one where it was
    given on the command line."""
    if isinstance(location, FromCommandLine):
        return Path.cwd()
    return base


def resolve_location(location: str | Path, base: Path) -> Path:
    """Return an absolute path: relative to `base`, or to the current folder where it was given on
    the command line.

    `$NAME`, `${NAME}` and `~` are replaced. Raises ValueError for a variable that is not set or
    empty, unless there is a file or folder of that very name; for the home of a user who is not
    known; for what cannot be a path.
    """
    base = folder_of(location, base)
    if "\0" in str(location):
        raise ValueError("holds a zero byte, which no path may have; remove it")
    expanded = Path(_with_variables(str(location), base))
    try:
        expanded = expanded.expanduser()
    except RuntimeError:
        raise ValueError(
            f"there is no home folder for {expanded.parts[0]}; write the path in full"
        ) from None
    return Path(os.path.normpath(base / expanded))


def _with_variables(location: str, base: Path) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1].strip("{}")
        if os.environ.get(name):
            return os.environ[name]
        end = location.find("/", match.end())
        if os.path.lexists(base / location[: end if end >= 0 else None]):
            return match[0]
        state = "empty" if name in os.environ else "not set"
        raise ValueError(
            f"the environment variable {name} is {state}; set it, or write the path in full"
        )

    return VARIABLE.sub(value, location)


_COUNT = re.compile(r"(\d[\d_]*(?:\.\d+)?) ?([A-Za-z]+)")
_THOUSANDS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_BYTES = {
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def _count(value: Any, units: Mapping[str, int], how: str) -> Any:
    """Turn `1.5T` into a number; what is none already, and no text, is left to the field's own
    rule."""
    if not isinstance(value, str) or not (match := _COUNT.fullmatch(value.strip())):
        return value
    unit = units.get(match[2].lower())
    exact = None if unit is None else Decimal(match[1]) * unit
    if exact is None or exact != int(exact):
        raise PydanticCustomError("count", "must be a whole number, or {how}", {"how": how})
    return int(exact)


def _token_count(value: Any) -> Any:
    return _count(
        value,
        _THOUSANDS,
        "one with k, M, B or T: 2B is 2,000,000,000, and 64k is 64,000, not 65,536",
    )


def _byte_count(value: Any) -> Any:
    return _count(
        value, _BYTES, "one with kB, MB, GB or TB (thousands), or KiB, MiB, GiB or TiB (1,024 each)"
    )


def count_of_bytes(count: int) -> str:
    """Return a number of bytes as a run file writes it, exactly: `128MiB`, `200MB`, `1`."""
    names = {"kb": "kB", "mb": "MB", "gb": "GB", "tb": "TB"}
    names |= {"kib": "KiB", "mib": "MiB", "gib": "GiB", "tib": "TiB"}
    for name, size in sorted(_BYTES.items(), key=lambda unit: -unit[1]):
        if count and count % size == 0:
            return f"{count // size}{names[name]}"
    return str(count)


@dataclass(frozen=True)
class InWords:
    """Stands beside a type in an annotation: what a description of the field calls it."""

    words: str
    are_bytes: bool = False
    """Bounds and default are numbers of bytes."""


TokenCount = Annotated[
    int, BeforeValidator(_token_count), InWords("number of tokens (64000, 300M, 2B)")
]
"""A number of tokens; also written `300M`, `2B`, `1.5T`, always thousands: `64k` is 64,000."""
ByteCount = Annotated[
    int,
    BeforeValidator(_byte_count),
    InWords("number of bytes (50000, 200MB, 128MiB)", are_bytes=True),
]
"""A number of bytes; also written `200MB` (thousands) or `128MiB` (1,024 each)."""
Location = Annotated[Path, located_by(resolve_location)]
"""A path or glob, absolute after loading. Locations never enter a fingerprint: a folder may be
moved."""


class Section(BaseModel):
    """A frozen part of the run file; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )
