"""What the person at the terminal sees: results, messages, progress.

Everything printed goes through this module, so that no text from a file, a folder or a model can
control the terminal. Writes to standard output and standard error; without a terminal, plain lines.
"""

import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import IO, Any, TypedDict, Unpack

from rich.console import Console, ConsoleOptions, JustifyMethod, OverflowMethod, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from pipeline.harmless_text import harmless, print_plain, visible
from pipeline.recent_rate import RecentRate


class _ConsoleSettings(TypedDict, total=False):
    """Arguments of `Console`."""

    file: IO[str]
    stderr: bool
    soft_wrap: bool
    force_terminal: bool
    width: int


class _TextOptions(TypedDict, total=False):
    """Arguments of `Console.render_str`."""

    style: str | Style
    justify: JustifyMethod | None
    overflow: OverflowMethod | None
    emoji: bool | None
    markup: bool | None
    highlight: bool | None
    highlighter: Callable[[str | Text], Text] | None


class _Terminal(Console):
    """A console that prints text as it is: no markup, no emoji codes, no control characters."""

    def __init__(self, **settings: Unpack[_ConsoleSettings]) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render_str(self, text: str, **options: Unpack[_TextOptions]) -> Text:
        """Return a string as it will be printed, so that columns get the right width."""
        return super().render_str(harmless(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of any output, also of `Text` and tables, made harmless."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(harmless(segment.text), segment.style)


console = _Terminal(soft_wrap=True)
"""Prints results, to standard output."""


class _Messages(_Terminal):
    def on_broken_pipe(self) -> None:
        """Stop printing where nobody reads: a training job may outlive its terminal."""
        self.quiet = True


messages = _Messages(stderr=True, soft_wrap=True)
"""Prints progress, notes and errors, to standard error."""

PLAIN_LINE_SECONDS = 10.0
"""Shortest time between two progress lines where there is no terminal."""


def note(text: str) -> None:
    """Print one line about what is going on; ignore a terminal that is gone."""
    with suppress(OSError):
        messages.print(text)


def warn(text: str) -> None:
    """Print one line that the user should not miss."""
    messages.print(f"warning: {text}", style="yellow")


def styled(text: str, style: str = "") -> Text:
    """Return text in a style, with control characters made visible; rich's `Text` drops some."""
    return Text(harmless(text), style)


def print_piece(text: str, style: str = "") -> None:
    """Print a part of a line to standard output at once, control characters made visible."""
    console.print(styled(text, style), end="")


def read_line(prompt: str) -> str | None:
    """Return a line that a user types, with line editing; None at Ctrl-D or Ctrl-C."""
    with suppress(ImportError):
        importlib.import_module("readline")  # lets `input` edit lines
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        print_piece("\n")
        return None


def print_json(value: Any) -> None:
    """Print a value as JSON in printable ASCII, other characters as `\\uNNNN`.

    JSON has no infinite numbers and no NaN: `null` stands for them.
    """
    text = json.dumps(_only_finite(value), indent=1, allow_nan=False)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def _only_finite(value: Any) -> Any:
    """Return a JSON value with None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _only_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_only_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_wide(table: RenderableType, least_width: int) -> None:
    """Print a table at least `least_width` columns wide; a narrower terminal breaks its lines.

    Rich alone would fit it into the terminal, or into 80 columns, and cut numbers.
    """
    _Terminal(file=console.file, width=max(console.width, least_width)).print(table)


def short(value: float) -> str:
    """Return a number with at most three digits and k, M, B or T."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def scientific(value: float) -> str:
    """Return a number with at most three digits and a power of ten, such as `7.3e10`."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def human_bytes(count: float) -> str:
    """Return a size with a decimal unit, for example `3.2 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            digits = 0 if unit == "bytes" else 1
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def binary_bytes(count: float) -> str:
    """Return a size with a binary unit, as memory is counted: in GiB, or in MiB below one."""
    if count >= 2**30:
        return f"{count / 2**30:,.1f} GiB"
    return f"{count / 2**20:,.1f} MiB"


def number_or_blank(value: float | None, form: str) -> str:
    """Return a number in a format such as `.3f` or `.2%`; "" for None."""
    if value is None:
        return ""
    return format(value, form)


def counted_noun(count: int, noun: str) -> str:
    """Return a count with its noun, `1 task` or `1,200 tasks`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}s"


def human_seconds(seconds: float) -> str:
    """Return a duration as `12.3 s`, `4 min 05 s` or `3 h 07 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


@contextmanager
def progress(
    label: str, total: float, unit: str = "", has_bar: bool = True
) -> Generator[Callable[[float, str], None]]:
    """Show a bar with percentage and time left; yield `update(completed, detail)`.

    `update` is cheap enough to call often. Without the bar, the detail has
    `columns_for_detail(label)` columns.
    """
    # Without a terminal a line is printed now and then.
    if not _redraws():
        yield _plain_updates(label, total, unit)
        return

    # The time left follows from the recent rate, as in the plain lines.
    import rich.progress

    rate = RecentRate()

    class TimeLeftColumn(rich.progress.ProgressColumn):
        def render(self, task: rich.progress.Task) -> Text:
            seconds = None
            if not task.finished:
                seconds = rate.seconds_left(time.monotonic(), total)
            clock = ""
            if seconds is not None:
                clock = _as_on_a_clock(seconds)
            return Text(clock, style="progress.remaining")

    description = rich.progress.TextColumn("{task.description}", markup=False)
    columns: list[rich.progress.ProgressColumn] = [description]
    if has_bar:
        columns.append(rich.progress.BarColumn(bar_width=30))
    columns += [
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("{task.fields[detail]}", markup=False),
        TimeLeftColumn(),
    ]

    # The bar is erased at its end: the stage's last line says what was made.
    with rich.progress.Progress(*columns, console=messages, transient=True) as bar:
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
    """Tell whether progress is redrawn in place, as on a terminal; else it is plain lines."""
    return messages.is_terminal and not os.environ.get("CI")


def columns_for_detail(label: str) -> int | None:
    """Return the columns left for a detail beside label, percentage and time left.

    Return None where there is no terminal.
    """
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
        seconds = rate.seconds_left(now, total)
        if now - last < PLAIN_LINE_SECONDS or seconds is None:
            return
        last = now
        done = f"{completed:,.0f} of {total:,.0f} {unit} {detail}"
        print_plain(f"{label}: {done} ({human_seconds(seconds)} left)")

    return update


@contextmanager
def elapsed(label: str) -> Generator[Callable[[], None]]:
    """Show the time that work of unknown size has taken; yield `tick()`, to be called often."""
    started = time.monotonic()
    last = started
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
            print_plain(f"{label}, {human_seconds(last - started)}")

    yield tick
