"""Text that cannot control the terminal, and the plain lines in which a command ends.

Free of rich, so that help and errors about arguments need not wait for its import; what needs
colours or a width is in `logs`. Writes to standard error.
"""

import logging
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
ResultT = TypeVar("ResultT")

INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories printed as codes: controls, formats such as direction marks, surrogates, line
separators."""


def visible(text: str, newline: str = "↵", tab: str = "⇥") -> str:
    """Replace every character that would control a terminal or be invisible on it.

    A control character becomes `<1B>` or `<U+202E>`, a tab `tab`, a line feed `newline`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character, newline, tab) for character in text)


def harmless(text: str) -> str:
    """Do as `visible`, but keep line feeds and tabs: for text of several lines."""
    return visible(text, newline="\n", tab="\t")


@lru_cache(maxsize=4096)
def _visible(character: str, newline: str, tab: str) -> str:
    if character == "\n":
        return newline
    if character == "\t":
        return tab
    if unicodedata.category(character) not in INVISIBLE:
        return character
    code = ord(character)
    if code < 0x80:
        return f"<{code:02X}>"
    return f"<U+{code:04X}>"


def print_plain(text: str) -> None:
    """Write lines to standard error, neither wrapped nor coloured, such as a command's last."""
    sys.stderr.write(harmless(text) + "\n")
    sys.stderr.flush()


def print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Write the traceback of a bug, without control characters; a `sys.excepthook`."""
    print_plain("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))


def make_library_messages_visible() -> None:
    """Pass log lines, warnings and tracebacks of libraries through `harmless`.

    They may quote names and text from files.
    """
    sys.excepthook = print_traceback
    logging.setLogRecordFactory(_changing_result(logging.getLogRecordFactory(), _harmless_record))
    warnings.formatwarning = _changing_result(warnings.formatwarning, harmless)


def _changing_result(
    function: Callable[Arguments, ResultT], change: Callable[[ResultT], ResultT]
) -> Callable[Arguments, ResultT]:
    return lambda *args, **kwargs: change(function(*args, **kwargs))


def _harmless_record(record: logging.LogRecord) -> logging.LogRecord:
    # A message that does not fit its arguments stays as it is: logging reports that itself.
    with suppress(TypeError, ValueError, KeyError):
        record.msg = harmless(record.getMessage())
        record.args = None
    return record
