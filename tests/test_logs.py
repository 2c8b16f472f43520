"""Numbers as people read them, progress where there is no terminal, and text that must not act on
one."""

import io
import json
import logging
import math
import sys
import unicodedata
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from pipeline import logs
from pipeline.harmless_text import (
    INVISIBLE,
    make_library_messages_visible,
    print_plain,
    print_traceback,
    visible,
)

HOSTILE = "\x1b[31m\u202e[/red]x:smile:\x9b2J\r\x07\x7fend"
"""As a file, column, source or token may be named: colours, direction, markup, an emoji code,
cursor, bell, delete."""
SHOWN = "<1B>[31m<U+202E>[/red]x:smile:<U+009B>2J<0D><07><7F>end"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (3_240_000, "3.2 MB"),
        (5e9, "5.0 GB"),
        (1.2e15, "1200.0 TB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert logs.human_bytes(count) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e11, "1e11"), (73_190_000_000, "7.32e10"), (99_999, "1e5"), (0.005, "5e-3"), (0, "0e0")],
)
def test_numbers_with_a_power_of_ten(number: float, text: str) -> None:
    assert logs.scientific(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (12.34, "12.3 s"),
        (60, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3600, "1 h 00 min"),
        (11_220, "3 h 07 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert logs.human_seconds(seconds) == text


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 105.0, 110.0, 111.0, 120.0])
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with logs.progress("tokenize", 4000, "bytes") as update:
        for completed in (500, 1000, 1100, 2000):
            update(completed, "1 of 4 tasks")
    assert capsys.readouterr().err.splitlines() == [
        "tokenize: 1,000 of 4,000 bytes 1 of 4 tasks (30.0 s left)",  # 10 s for a quarter
        "tokenize: 2,000 of 4,000 bytes 1 of 4 tasks (20.0 s left)",  # 20 s for a half
    ]


def test_progress_that_has_not_begun_divides_by_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 60.0])
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with logs.progress("read", 10) as update:
        update(0, "")
    assert capsys.readouterr().err == ""


def test_messages_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    logs.note("a [bold]file[/bold] " + "x" * 200)
    logs.warn("[red]careful[/red]")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "a [bold]file[/bold] " + "x" * 200 + "\nwarning: [red]careful[/red]\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold]", "plain [bold]"),
        ("\x1b[31m\x07\x00\x7f\r", "<1B>[31m<07><00><7F><0D>"),
        ("\x9b31m", "<U+009B>31m"),
        ("a\tb\nc", "a⇥b↵c"),
        ("\u202eright\u2028", "<U+202E>right<U+2028>"),
        ("naïve 日本 🙂", "naïve 日本 🙂"),
    ],
)
def test_nothing_acts_on_the_terminal(text: str, shown: str) -> None:
    assert visible(text) == shown


def table_of(text: str) -> Table:
    table = Table("name")
    table.add_row(text)
    table.add_row(logs.styled(text))
    return table


def raise_and_show(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        print_traceback(ValueError, error, error.__traceback__)


WAYS: dict[str, tuple[Callable[[str], Any], int]] = {
    "note": (logs.note, 1),
    "warning": (logs.warn, 1),
    "result": (logs.console.print, 1),
    "styled result": (lambda text: logs.console.print(logs.styled(text, "bold")), 1),
    "table": (lambda text: logs.print_wide(table_of(text), 100), 2),
    "error": (print_plain, 1),
    "traceback": (raise_and_show, 1),
}
"""What prints, and how often it prints the text."""


@pytest.mark.parametrize("way", WAYS)
def test_no_text_acts_on_the_terminal_whatever_prints_it(
    way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show, times = WAYS[way]
    show(HOSTILE)
    printed = "".join(capsys.readouterr())
    assert {c for c in printed if unicodedata.category(c) in INVISIBLE} == {"\n"}
    assert printed.count(SHOWN) == times


def test_rich_text_made_elsewhere_does_not_act_either(capsys: pytest.CaptureFixture[str]) -> None:
    logs.console.print(Text(HOSTILE, style="bold"))
    printed = "".join(capsys.readouterr())
    assert {c for c in printed if unicodedata.category(c) in INVISIBLE} == {"\n"}


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_shows_names_as_they_are(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO()
    monkeypatch.setattr(
        logs, "messages", type(logs.messages)(file=file, force_terminal=is_terminal, width=500)
    )
    monkeypatch.setattr(logs.sys, "stderr", file)
    monkeypatch.setattr(logs, "PLAIN_LINE_SECONDS", 0)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with logs.progress(HOSTILE, 4) as update:
        update(1, HOSTILE)
        update(2, HOSTILE)
    with logs.elapsed(HOSTILE) as tick:
        tick()
    printed = file.getvalue()
    assert printed.count(SHOWN) >= 3
    assert [
        acts for acts in ("\x1b[31m\u202e", "\u202e", "\x9b", "\x07", "\x7f") if acts in printed
    ] == []


def test_what_libraries_log_and_warn_of_does_not_act(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers does of keys in a model's config.json that it does not know."""
    make_record = logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    make_library_messages_visible()
    try:
        handler, logger = logging.StreamHandler(sys.stderr), logging.getLogger("a library")
        logger.addHandler(handler)
        logger.warning("unknown key %s", HOSTILE)
        logger.warning(HOSTILE + "%s")
        logger.removeHandler(handler)
        sys.stderr.write(warnings.formatwarning(HOSTILE, UserWarning, "file.py", 1))
        sys.excepthook(ValueError, ValueError(HOSTILE), None)
    finally:
        logging.setLogRecordFactory(make_record)
    printed = capsys.readouterr().err
    assert printed.count(SHOWN) == 4
    assert {c for c in printed if unicodedata.category(c) in INVISIBLE} == {"\n"}


def test_json_is_printable_ascii_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    logs.print_json({HOSTILE: ["\udcff é", HOSTILE]})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert all(line.isprintable() for line in printed.splitlines())
    assert json.loads(printed) == {HOSTILE: ["\udcff é", HOSTILE]}


def test_json_has_finite_numbers_only(capsys: pytest.CaptureFixture[str]) -> None:
    logs.print_json({"a": [math.inf, 1.5], "b": (math.nan, {"c": -math.inf, "d": 2})})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": [None, 1.5], "b": [None, {"c": None, "d": 2}]}
    assert "Infinity" not in printed


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, "0:00:40"), (False, "(40.0 s left)")])
def test_the_time_left_is_that_of_the_rate_now(
    is_terminal: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 a second for ten minutes, then 25: by the average of all, 1,000 more would take 11 s."""
    file, now = io.StringIO(), 0.0
    monkeypatch.setattr(
        logs, "messages", type(logs.messages)(file=file, force_terminal=is_terminal, width=200)
    )
    monkeypatch.setattr(logs.sys, "stderr", file)
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    completed = 0
    with logs.progress("train", 62_500, "tokens") as update:
        for second in range(1, 661):
            now += 1
            completed += 100 if second <= 600 else 25
            before_last = len(file.getvalue())
            update(completed)
    assert shown in file.getvalue()[before_last:]  # a bar is drawn once more at its end


def test_one_is_counted_in_the_singular() -> None:
    counts = [logs.counted_noun(count, "task") for count in (0, 1, 2, 1200)]
    assert counts == ["0 tasks", "1 task", "2 tasks", "1,200 tasks"]
