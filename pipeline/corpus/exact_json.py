"""JSON as Python and other programs write it, read without silent loss. Reads and writes no file.

orjson refuses NaN and infinity, half a surrogate pair, numbers too large for a double, and values
nested more than 1,024 deep; and it turns integers beyond 64 bits into floats. So that such a value
costs neither its row nor its digits, a stand-in, a string, takes its place before orjson parses.
Where the parsed values are written again, each stand-in becomes the digits of the integer, or null.
"""

import json
import re
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isinf
from typing import Any, Literal

import orjson
import xxhash

from pipeline.store.records import Json

Problem = Literal["no-text", "text-not-a-string", "broken-json", "invalid-utf8"]

MOST_DEPTH = 1024
"""Levels that orjson reads, the outermost object included; a value nested deeper becomes null."""
SMALLEST_INTEGER = -(2**63)
"""Minimum integer that orjson reads exactly."""
LARGEST_INTEGER = 2**64 - 1
"""Maximum integer that orjson reads exactly."""
MOST_DIGITS = 4300
"""Maximum number of digits of an integer that Python converts from and to text. Source: sys.int_info."""

STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
"""A JSON string, also one without an end: otherwise a line that was cut would be searched again from
each of its escaped quotes."""
_ODD = re.compile(
    rb"(?P<string>" + STRING + rb")(?P<key>\s*:)?"
    rb"|(?P<constant>-?Infinity|NaN)"
    # Enough digits to exceed 64 bits, or an exponent that may exceed the range of a double.
    rb"|(?P<number>-?\d(?:[\d.eE+\-]{18,}|[\d.]*+[eE]\+?\d{3,}))",
    re.DOTALL,
)
_INTEGER = re.compile(rb"-?(?:0|[1-9]\d*)")
_FLOAT = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NESTING = re.compile(STRING + rb"|[\[\]{}]", re.DOTALL)
_STAND_IN = re.compile(rb'"([0-9a-f]{32}:\d+)"')

_DIGITS_TO_ZERO = bytes(
    ord("0") if chr(byte).isdecimal() and byte < 128 else byte for byte in range(256)
)
_MANY_DIGITS = b"0" * 19
"""Part of every integer beyond 64 bits whose digits are replaced by zeros."""
_recursion_limit = threading.Lock()
LARGE_FLOAT = orjson.dumps(1e30).strip(b"0123456789")
"""Part of every float of 2^63 or more as orjson writes it: `e+`."""


@dataclass(frozen=True)
class StandIn:
    """The value that is written in place of a stand-in."""

    literal: bytes
    """The value as JSON."""
    is_lost: bool
    """Whether the literal differs from the value in the file."""
    problem: Problem
    """The reason to reject a row whose text is this value."""


StandIns = dict[str, StandIn]
"""Name of a stand-in, a string in the parsed values -> the value that it stands for."""


def parse_with_stand_ins(content: bytes) -> tuple[Any, StandIns]:
    """Parse JSON with stand-ins for values that orjson cannot hold; return it and the stand-ins.

    Raises orjson.JSONDecodeError where the content is not JSON even so.
    """
    rewriting = _Rewriting(content)
    rewritten = _ODD.sub(rewriting.replace, content)
    if rewritten.count(b"[") + rewritten.count(b"{") > MOST_DEPTH:
        rewritten = rewriting.without_deep_values(rewritten)
    return orjson.loads(rewritten), rewriting.stand_ins


def replace_stand_ins(encoded: bytes, stand_ins: StandIns) -> tuple[bytes, bool]:
    """Replace stand-ins in JSON by their values; return it, and whether any value is lost."""
    is_lost = False

    def literal(match: re.Match[bytes]) -> bytes:
        nonlocal is_lost
        stand_in = stand_ins.get(match[1].decode())
        if stand_in is None:
            # Some document's own text that looks like a stand-in.
            return match[0]
        is_lost = is_lost or stand_in.is_lost
        return stand_in.literal

    return _STAND_IN.sub(literal, encoded), is_lost


def may_have_lost_digits(value: Json) -> bool:
    """Return whether a number that orjson has read may have been an integer beyond 64 bits.

    Asked only where `LARGE_FLOAT` is part of the value as orjson writes it.
    """
    waiting: list[Json] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, float):
            if not SMALLEST_INTEGER < part < -SMALLEST_INTEGER:
                return True
        elif isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return False


def loads_exactly(encoded: bytes) -> Any:
    """Parse JSON, and keep all digits of integers of any size.

    An integer of more than `MOST_DIGITS` digits is returned as `str`.
    """
    if _MANY_DIGITS not in encoded.translate(_DIGITS_TO_ZERO):
        return orjson.loads(encoded)
    with room_for_nesting():
        return json.loads(encoded, parse_int=_integer)


@contextmanager
def room_for_nesting() -> Generator[None]:
    """Let `json` parse as many levels as orjson reads, however deep the caller's own stack is."""
    # All threads share the limit: one must not restore it while another needs it.
    with _recursion_limit:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + 10_000)
        try:
            yield
        finally:
            sys.setrecursionlimit(limit)


def _integer(digits: str) -> int | str:
    if len(digits) > MOST_DIGITS:
        return digits
    return int(digits)


class _Rewriting:
    """Makes the stand-ins of one line."""

    def __init__(self, content: bytes) -> None:
        self.stand_ins: StandIns = {}
        # No line can hold its own hash.
        self._name = xxhash.xxh3_128_hexdigest(content)
        self._is_utf8 = is_utf8(content)

    def replace(self, match: re.Match[bytes]) -> bytes:
        """Return the bytes that take the place of a match of `_ODD`."""
        if match["string"]:
            return self._string(match)
        if match["constant"]:
            return self._stand_in(b"null", True, "no-text")
        number = match["number"]
        if _INTEGER.fullmatch(number):
            if len(number) <= 21 and SMALLEST_INTEGER <= int(number) <= LARGEST_INTEGER:
                return number
            return self._stand_in(number, False, "text-not-a-string")
        if _FLOAT.fullmatch(number) and isinf(float(number)):
            return self._stand_in(b"null", True, "text-not-a-string")
        return number

    def without_deep_values(self, content: bytes) -> bytes:
        """Return the content with a stand-in for each value that is nested too deep."""
        pieces: list[bytes] = []
        kept_from = 0
        deep_from = 0
        depth = 0
        for match in _NESTING.finditer(content):
            token = match[0]
            if token in b"[{":
                depth += 1
                if depth == MOST_DEPTH + 1:
                    deep_from = match.start()
            elif token in b"]}":
                if depth == MOST_DEPTH + 1:
                    pieces += [
                        content[kept_from:deep_from],
                        self._stand_in(b"null", True, "text-not-a-string"),
                    ]
                    kept_from = match.end()
                depth -= 1
        return b"".join([*pieces, content[kept_from:]])

    def _string(self, match: re.Match[bytes]) -> bytes:
        """Return a string that orjson can hold as it is, or else a stand-in for it."""
        string = match["string"]
        if not self._is_utf8 and not is_utf8(string):
            return self._bad_string(match, string.decode(errors="replace"), "invalid-utf8")
        if _SURROGATE.search(string):
            repaired = _repair_surrogates(string)
            if repaired is not None:
                return self._bad_string(match, repaired, "broken-json")
        return match[0]

    def _bad_string(self, match: re.Match[bytes], readable: str, problem: Problem) -> bytes:
        """Return a stand-in for a string: null for a value, `readable` for the key of an object."""
        if match["key"] is None:
            return self._stand_in(b"null", True, problem)
        return self._stand_in(readable.encode(), True, problem) + match["key"]

    def _stand_in(self, literal: bytes, is_lost: bool, problem: Problem) -> bytes:
        name = f"{self._name}:{len(self.stand_ins)}"
        self.stand_ins[name] = StandIn(literal, is_lost, problem)
        return f'"{name}"'.encode()


def _repair_surrogates(string: bytes) -> str | None:
    """Return a JSON string with U+FFFD for each half of a surrogate pair; None if all are whole."""
    try:
        value = json.loads(string)
    except ValueError:
        # Not JSON: orjson refuses the line, too.
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return json.dumps(value.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return None


def is_utf8(content: bytes | bytearray) -> bool:
    """Return whether bytes are valid UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
