"""Types of values in a run file: paths, numbers of tokens and bytes; the base class of sections."""

import codecs
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    InstanceOf,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from pipeline.config.urls import RawPath, Url, UrlText, is_url, parse_url
from pipeline.config.yaml_files import FromCommandLine, YamlValue

VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)
"""An environment variable in a path, `$NAME` or `${NAME}`, as in `os.path.expandvars`."""

GivenLocation: TypeAlias = "YamlValue | Path"
"""What a run file or a default gives where a location is expected."""


def located_by(resolve: Callable[[str | Path, Path], RawPath]) -> BeforeValidator:
    """Return a validator that replaces a location by `resolve(location, folder of the run file)`.

    A ValueError of `resolve` becomes a problem of the field. A value that is neither text nor a
    path is passed on unchanged, to be refused by the type of the field.
    """

    def locate(value: GivenLocation, info: ValidationInfo) -> "GivenLocation | Url":
        if not isinstance(value, (str, Path)):
            return value
        context: dict[str, Path] = info.context or {}
        try:
            return resolve(value, context.get("base", Path.cwd()))
        except ValueError as error:
            raise PydanticCustomError("location", "{why}", {"why": str(error)}) from None

    return BeforeValidator(locate)


def folder_of(location: str | Path, base: Path) -> Path:
    """Return the folder to which a location is relative.

    The current folder for a location given on the command line, else `base`.
    """
    if isinstance(location, FromCommandLine):
        return Path.cwd()
    return base


def resolve_location(location: str | Path, base: Path) -> Path:
    """Return a location as an absolute path, with `$NAME`, `${NAME}` and `~` replaced.

    A relative location starts at `base`, or at the current folder if it was given on the command
    line. Raises ValueError for a variable that is empty or not set, unless a file or folder has
    `$NAME` in its name; for the home folder of an unknown user; for a zero byte; for a URL, which
    would become a folder of that name here.
    """
    base = folder_of(location, base)
    if "\0" in str(location):
        raise ValueError("holds a zero byte, which no path can contain; remove it")
    written = _with_variables(str(location), base)
    if is_url(written):
        raise ValueError(
            "is a URL, which only `paths` and `validation_paths` of sources may be; give a path of "
            "this machine"
        )
    expanded = Path(written)
    try:
        expanded = expanded.expanduser()
    except RuntimeError:
        raise ValueError(
            f"{expanded.parts[0]} is the home folder of no known user; write the path in full"
        ) from None
    return Path(os.path.normpath(base / expanded))


def resolve_source(location: str | Path, base: Path) -> RawPath:
    """Return a location of raw files: a URL, or what `resolve_location` makes of any other text."""
    expanded = _with_variables(str(location), base)
    if is_url(expanded):
        return parse_url(expanded)
    return resolve_location(location, base)


def _with_variables(location: str, base: Path) -> str:
    """Replace the environment variables in a location."""

    def value(match: re.Match[str]) -> str:
        name = match[1].strip("{}")
        if os.environ.get(name):
            return os.environ[name]
        # A file or folder may have a dollar sign in its name.
        rest_of_part = location[match.end() :].partition("/")[0]
        if os.path.lexists(base / (location[: match.end()] + rest_of_part)):
            return match[0]
        state = "not set"
        if name in os.environ:
            state = "empty"
        raise ValueError(
            f"the environment variable {name} is {state}; set it, or write the path in full"
        )

    return VARIABLE.sub(value, location)


_COUNT = re.compile(r"(\d[\d_]*(?:\.\d+)?) ?([A-Za-z]+)")
_TOKENS = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
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


def _whole_number(value: YamlValue, units: Mapping[str, int], other_form: str) -> YamlValue:
    """Turn text like `1.5T` into a whole number; return any other value unchanged.

    `units` holds the factors by the lower-case suffix, `other_form` describes them in the message.
    """
    if not isinstance(value, str):
        return value
    match = _COUNT.fullmatch(value.strip())
    if match is None:
        return value
    unit = units.get(match[2].lower(), 0)
    exact = Decimal(match[1]) * unit
    if unit == 0 or exact != int(exact):
        message = "must be a whole number, or {other_form}"
        raise PydanticCustomError("count", message, {"other_form": other_form})
    return int(exact)


def _token_count(value: YamlValue) -> YamlValue:
    return _whole_number(
        value,
        _TOKENS,
        "one with k, M, B or T: 2B is 2,000,000,000 and 64k is 64,000, not 65,536",
    )


def _byte_count(value: YamlValue) -> YamlValue:
    return _whole_number(
        value, _BYTES, "one with kB, MB, GB or TB (thousands), or KiB, MiB, GiB or TiB (1,024 each)"
    )


def count_of_bytes(count: int) -> str:
    """Return a number of bytes as a run file writes it, without rounding: `128MiB`, `200MB`, `1`."""
    names = {"kb": "kB", "mb": "MB", "gb": "GB", "tb": "TB"}
    names |= {"kib": "KiB", "mib": "MiB", "gib": "GiB", "tib": "TiB"}
    for name, size in sorted(_BYTES.items(), key=lambda unit: -unit[1]):
        if count and count % size == 0:
            return f"{count // size}{names[name]}"
    return str(count)


@dataclass(frozen=True)
class InWords:
    """Part of an annotation: the words with which `config --describe` names the type."""

    words: str
    are_bytes: bool = False
    """Whether bounds and default are numbers of bytes, to be written as such."""


TokenCount = Annotated[
    int, BeforeValidator(_token_count), InWords("number of tokens (64000, 300M, 2B)")
]
"""A number of tokens; also written `300M`, `2B`, `1.5T`, in steps of 1,000: `64k` is 64,000."""

ByteCount = Annotated[
    int,
    BeforeValidator(_byte_count),
    InWords("number of bytes (50000, 200MB, 128MiB)", are_bytes=True),
]
"""A number of bytes; also written `200MB` (steps of 1,000) or `128MiB` (steps of 1,024)."""

NOT_OF_FILES = ("idna", "punycode", "undefined")
"""Python's encodings of names, and the one that refuses everything."""


def _encoding_name(value: YamlValue) -> YamlValue:
    """Return Python's own name of an encoding, so that two spellings are one setting."""
    if not isinstance(value, str):
        return value
    try:
        name = codecs.lookup(value).name
        # Refuses codecs from bytes to bytes, such as base64.
        "".encode(name)
    except (LookupError, ValueError):
        name = ""
    if not name or name in NOT_OF_FILES:
        message = "no encoding of text that Python knows; see `encodings` in Python's documentation"
        raise PydanticCustomError("encoding", message)
    return name


Encoding = Annotated[str, BeforeValidator(_encoding_name), InWords("name of an encoding")]
"""An encoding of text, by Python's own name after loading: `latin-1` becomes `iso8859-1`."""

Location = Annotated[Path, located_by(resolve_location)]
"""A path or glob, absolute after loading.

Locations never enter a fingerprint, so that a folder can be moved.
"""

_OnServer = Annotated[
    InstanceOf[Url],
    PlainSerializer(lambda url: UrlText(url.text), return_type=Any),
    InWords("URL (s3://, gs://, hf://, ...)"),
]
SourceLocation = Annotated[Path | _OnServer, located_by(resolve_source)]
"""A location of raw files; like a `Location`, or a URL of a file system that fsspec knows."""


class Section(BaseModel):
    """A section of the run file. It is frozen, and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
    fields_left_out_unused: ClassVar[tuple[str, ...]] = ()
    """Fields that a dump leaves out while they have their default: settings that came later, so that
    data and runs made without them keep their fingerprints."""

    @model_serializer(mode="wrap")
    def _without_unused_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        for name in self.fields_left_out_unused:
            default = type(self).model_fields[name].get_default(call_default_factory=True)
            if getattr(self, name) == default:
                values.pop(name, None)
        return values
