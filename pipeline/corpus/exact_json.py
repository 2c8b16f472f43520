"""JSON as Python and other programs write it, read without a loss that nobody is told of.

orjson refuses what Python's `json` writes for NaN, infinity and half a surrogate pair, numbers too
large for a double and values nested more than 1,024 deep, and turns integers beyond 64 bits into
floats. So that one such value costs neither its row nor its digits, it is replaced by a stand-in, a
string, before orjson parses; where the parsed values are written again, each stand-in becomes the
integer's own digits, or null.
"""

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isinf
from typing import Any, Literal

import orjson
import xxhash

Problem = Literal["no-text", "text-not-a-string", "broken-json", "invalid-utf8"]

MOST_DEPTH = 1024
"""Levels that orjson reads, the outermost object among them; what is nested deeper becomes null."""
SMALLEST_INTEGER = -(2**63)
LARGEST_INTEGER = 2**64 - 1
"""The range of integers that orjson reads exactly."""
MOST_DIGITS = 4300
"""Python turns no longer integer into text or back (sys.int_info)."""

STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
"""Also one that does not end: else a line that was cut would be searched again from each of its
escaped quotes."""
_ODD = re.compile(
    rb"(?P<string>" + STRING + rb")(?P<key>\s*:)?"
    rb"|(?P<constant>-?Infinity|NaN)"
    # Digits enough to leave 64 bits, or an exponent that may leave a double's range.
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
"""What stands in an integer beyond 64 bits, with zeros for its digits."""
_nesting = threading.Lock()
LARGE_FLOAT = orjson.dumps(1e30).strip(b"0123456789")
"""What stands in every float of 2^63 or more, as orjson writes it: `e+`."""


@dataclass(frozen=True)
class StandIn:
    """What is written in the place of a string that stood for it."""

    literal: bytes
    """JSON."""
    is_lost: bool
    """Whether it is not what the file has."""
    problem: Problem
    """What is wrong with a text that is such a value."""


StandIns = dict[str, StandIn]


def parse_with_stand_ins(content: bytes) -> tuple[Any, StandIns]:
    """Return the value with stand-ins for what orjson cannot hold, and what each of them stands
    for.

    Raises orjson.JSONDecodeError for what is no JSON even so.
    """
    rewriting = _Rewriting(content)
    rewritten = _ODD.sub(rewriting.replace, content)
    if rewritten.count(b"[") + rewritten.count(b"{") > MOST_DEPTH:
        rewritten = rewriting.without_deep_values(rewritten)
    return orjson.loads(rewritten), rewriting.stand_ins


def replace_stand_ins(encoded: bytes, stand_ins: StandIns) -> tuple[bytes, bool]:
    """Return JSON with its stand-ins replaced by what they stand for, and whether anything of it is
    lost."""
    is_lost = False

    def literal(match: re.Match[bytes]) -> bytes:
        nonlocal is_lost
        stand_in = stand_ins.get(match[1].decode())
        if stand_in is None:  # the text of some document
            return match[0]
        is_lost = is_lost or stand_in.is_lost
        return stand_in.literal

    return _STAND_IN.sub(literal, encoded), is_lost


def may_have_lost_digits(value: Any) -> bool:
    """Tell whether one of the numbers that orjson has read may have been an integer beyond 64 bits.

    Asked only where `LARGE_FLOAT` stands in what orjson has written of the value.
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float):
            if not SMALLEST_INTEGER < one < -SMALLEST_INTEGER:
                return True
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return False


def loads_exactly(encoded: bytes) -> Any:
    """Return what JSON holds, integers of any size with all their digits: as `str` where Python
    makes no `int` of them."""
    if _MANY_DIGITS not in encoded.translate(_DIGITS_TO_ZERO):
        return orjson.loads(encoded)
    with room_for_nesting():
        return json.loads(encoded, parse_int=_integer)


@contextmanager
def room_for_nesting() -> Iterator[None]:
    """Let `json` work on as many levels as orjson reads, whatever the caller's own depth is."""
    with _nesting:  # the limit is of all threads: one must not take it back while another needs it
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + 10_000)
        try:
            yield
        finally:
            sys.setrecursionlimit(limit)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MOST_DIGITS else digits


class _Rewriting:
    """Makes the stand-ins of one line."""

    def __init__(self, content: bytes) -> None:
        self.stand_ins: StandIns = {}
        self._name = xxhash.xxh3_128_hexdigest(content)  # which no line can hold of itself
        self._is_utf8 = is_utf8(content)

    def replace(self, match: re.Match[bytes]) -> bytes:
        """Return what is put in the place of a match of `_ODD`."""
        if match["string"]:
            return self._string(match)
        if match["constant"]:
            return self._stand_in(b"null", True, "no-text")
        number = match["number"]
        if _INTEGER.fullmatch(number):
            is_exact = len(number) <= 21 and SMALLEST_INTEGER <= int(number) <= LARGEST_INTEGER
            return number if is_exact else self._stand_in(number, False, "text-not-a-string")
        if _FLOAT.fullmatch(number) and isinf(float(number)):
            return self._stand_in(b"null", True, "text-not-a-string")
        return number

    def without_deep_values(self, content: bytes) -> bytes:
        """Return the content with a stand-in for each value that is nested too deep."""
        pieces: list[bytes] = []
        kept_from = deep_from = depth = 0
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
        string = match["string"]
        if not self._is_utf8 and not is_utf8(string):
            problem = "invalid-utf8"
            readable = string.decode(errors="replace")
        elif _SURROGATE.search(string) and (half := _with_half_a_pair(string)) is not None:
            problem = "broken-json"
            readable = half
        else:
            return match[0]
        if match["key"] is None:
            return self._stand_in(b"null", True, problem)
        return self._stand_in(readable.encode(), True, problem) + match["key"]

    def _stand_in(self, literal: bytes, is_lost: bool, problem: Problem) -> bytes:
        name = f"{self._name}:{len(self.stand_ins)}"
        self.stand_ins[name] = StandIn(literal, is_lost, problem)
        return f'"{name}"'.encode()


def _with_half_a_pair(string: bytes) -> str | None:
    """Return a JSON string with U+FFFD for each half of a surrogate pair; None where it holds whole
    ones only."""
    try:
        value = json.loads(string)
    except ValueError:  # nor will orjson take it
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return json.dumps(value.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return None


def is_utf8(content: bytes | bytearray) -> bool:
    """Tell whether bytes are valid UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
