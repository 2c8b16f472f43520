"""What the person at the terminal sees: results, messages, progress, and plain lines where there is
no terminal.

All that is printed goes through here, so that no text from a file, a folder or a model can act on
the terminal.
"""

import json
import logging
import os
import sys
import time
import traceback
import unicodedata
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories shown as codes: controls, formats (direction marks, joiners), surrogates, line
separators."""


def visible(text: str, newline: str = "↵", tab: str = "⇥") -> str:
    """Return text with every character that a terminal would act on, or would not show, made
    visible.

    A control character becomes `<1B>` or `<U+202E>`, a tab `tab`, a line feed `newline`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character, newline, tab) for character in text)


def harmless(text: str) -> str:
    """Return text of several lines with all but its line feeds and tabs made visible."""
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
    return f"<{code:02X}>" if code < 0x80 else f"<U+{code:04X}>"


class _Terminal(Console):
    """A console on which text is nothing but text: no markup, no emoji codes, no characters that a
    terminal acts on."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as it will be shown, so that columns are as wide as that."""
        return super().render_str(harmless(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the pieces of anything printed, those of rich's own `Text` and tables included."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)


console = _Terminal(soft_wrap=True)
"""Results go to standard output."""


class _Messages(_Terminal):
    def on_broken_pipe(self) -> None:
        """Say no more where nobody reads: a training job outlives the terminal that it was started
        from."""
        self.quiet = True


messages = _Messages(stderr=True, soft_wrap=True)
"""Progress, notes and errors go to standard error."""

PLAIN_LINE_SECONDS = 10.0
"""Without a terminal, at most one progress line in this time."""


def note(text: str) -> None:
    """Print one line about what is going on; a terminal that is gone ends nothing."""
    with suppress(OSError):
        messages.print(text)


def warn(text: str) -> None:
    """Print one line that the user should not miss."""
    messages.print(f"warning: {text}", style="yellow")


def styled(text: str, style: str = "") -> Text:
    """Return text in a style. (Rich's own `Text` drops some characters that would act, instead of
    showing them.)"""
    return Text(harmless(text), style)


def say_plainly(text: str) -> None:
    """Write lines to standard error as they are, neither wrapped nor coloured: what a command ends
    with."""
    sys.stderr.write(harmless(text) + "\n")
    sys.stderr.flush()


def show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Write the traceback of a bug: what it quotes may come from a file. Takes the place of
    `sys.excepthook`."""
    say_plainly("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))


def watch_libraries() -> None:
    """Have what libraries log, warn of and fail with shown like our own messages: they quote names
    out of files, too."""
    sys.excepthook = show_traceback
    make_record = logging.getLogRecordFactory()
    format_warning = warnings.formatwarning

    def harmless_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        # A message that does not fit its arguments stays as it is: logging says so itself.
        with suppress(TypeError, ValueError, KeyError):
            record.msg = harmless(record.getMessage())
            record.args = None
        return record

    logging.setLogRecordFactory(harmless_record)
    warnings.formatwarning = lambda *args, **kwargs: harmless(format_warning(*args, **kwargs))


def print_json(value: Any) -> None:
    """Print a value as JSON in printable ASCII: whatever else a string holds is written as
    `\\uNNNN`."""
    sys.stdout.write(json.dumps(value, indent=1).replace("\x7f", "\\u007f") + "\n")


def print_wide(shown: RenderableType, least_width: int) -> None:
    """Print a table to standard output as if there were so many columns: a narrower terminal breaks
    its lines.

    (Rich's own `width` never exceeds the terminal's, or 80 where there is none, and cuts figures.)
    """
    _Terminal(file=console.file, width=max(console.width, least_width)).print(shown)


def short(value: float) -> str:
    """Return a number with at most three digits and k, M, B or T."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def human_bytes(count: float) -> str:
    """Return a size with a decimal unit, for example `3.2 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted_noun(count: int, noun: str) -> str:
    """Return a count with its noun, `1 task` or `1,200 tasks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def human_seconds(seconds: float) -> str:
    """Return a duration as `12.3 s`, `4 min 05 s` or `3 h 07 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


WINDOW_SECONDS = 30.0
"""Time that the rate is measured over; longer where updates come rarely."""
LEAST_POINTS = 5
"""Updates that the rate is measured over at least, once there are as many: steps may take
minutes."""
SPACING_SECONDS = 0.25
"""Updates that come closer than this count as one."""
SILENT_INTERVALS = 2
"""After so many usual intervals without an update, the silence counts, too."""


class RecentRate:
    """Takes what is completed at some times, in seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()

    def add(self, now: float, completed: float) -> None:
        """Take what is completed now. The first time is the beginning: what was done before has no
        rate."""
        points = self._points
        if points and completed < points[-1][1]:  # gone back, as a run does to a checkpoint
            points.clear()
        if len(points) >= 2 and now - points[-2][0] < SPACING_SECONDS:
            points.pop()
        points.append((now, completed))
        while len(points) > LEAST_POINTS and points[1][0] <= now - WINDOW_SECONDS:
            points.popleft()

    def per_second(self, now: float) -> float:
        """Return the recent rate; 0 where nothing was done, or there is nothing yet to measure."""
        if len(self._points) < 2:
            return 0.0
        first_time, first_completed = self._points[0]
        last_time, last_completed = self._points[-1]
        seconds = now - first_time if self._is_silent(now) else last_time - first_time
        return (last_completed - first_completed) / seconds if seconds > 0 else 0.0

    def seconds_left(self, now: float, total: float) -> float | None:
        """Return the time until `total` is completed at the recent rate; None where nothing was
        done of late."""
        rate = self.per_second(now)
        if rate <= 0:
            return None
        last_time, completed = self._points[-1]
        since = 0.0 if self._is_silent(now) else now - last_time
        return max(0.0, (total - completed) / rate - since)

    def _is_silent(self, now: float) -> bool:
        """Tell whether the last update is much longer ago than updates usually are."""
        usual = (self._points[-1][0] - self._points[0][0]) / (len(self._points) - 1)
        return now - self._points[-1][0] > SILENT_INTERVALS * usual


@contextmanager
def progress(
    label: str, total: float, unit: str = "", has_bar: bool = True
) -> Iterator[Callable[[float, str], None]]:
    """Show a bar with rate and time left; yields `update(completed, detail)`, cheap enough to call
    often.

    Without the bar there are `columns_for_detail(label)` for the detail.
    """
    if not _redraws():
        yield _plain_updates(label, total, unit)
        return
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
    )

    rate = RecentRate()

    class TimeLeftColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = None if task.finished else rate.seconds_left(time.monotonic(), total)
            return Text("" if left is None else _as_on_a_clock(left), style="progress.remaining")

    columns = (
        TextColumn("{task.description}", markup=False),
        *([BarColumn(bar_width=30)] if has_bar else []),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeLeftColumn(),
    )
    with Progress(*columns, console=messages, transient=True) as bar:
        task = bar.add_task(visible(label), total=total, detail="")

        def update(completed: float, detail: str = "") -> None:
            rate.add(time.monotonic(), completed)
            bar.update(task, completed=completed, detail=visible(detail))

        yield update


def _as_on_a_clock(seconds: float) -> str:
    """Return a duration as `0:00:15`."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def _redraws() -> bool:
    """Tell whether progress is drawn in place; elsewhere it is plain lines."""
    return messages.is_terminal and not os.environ.get("CI")


def columns_for_detail(label: str) -> int | None:
    """Return how many columns a detail may take beside a label, its percentage and the time left;
    None: no terminal."""
    if not _redraws():
        return None
    return messages.width - len(f"{label} 100%  00:00:00")


def _plain_updates(label: str, total: float, unit: str) -> Callable[[float, str], None]:
    last = time.monotonic()
    rate = RecentRate()

    def update(completed: float, detail: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        rate.add(now, completed)
        left = rate.seconds_left(now, total)
        if now - last < PLAIN_LINE_SECONDS or left is None:
            return
        last = now
        say_plainly(
            f"{label}: {completed:,.0f} of {total:,.0f} {unit} {detail} ({human_seconds(left)} "
            "left)"
        )

    return update


@contextmanager
def elapsed(label: str) -> Iterator[Callable[[], None]]:
    """Show how long something without a measure of progress has taken; yields `tick()`, to be
    called often."""
    started = last = time.monotonic()
    if _redraws():
        with messages.status(Text(visible(label))) as status:
            yield lambda: status.update(
                Text(f"{visible(label)}, {human_seconds(time.monotonic() - started)}")
            )
        return

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_LINE_SECONDS:
            last = time.monotonic()
            say_plainly(f"{label}, {human_seconds(last - started)}")

    yield tick
