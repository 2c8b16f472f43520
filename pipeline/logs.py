"""What the person at the terminal sees: messages, progress bars, and plain lines where there is no terminal."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console, RenderableType

console = Console(highlight=False, soft_wrap=True)
"""Results go to standard output."""


class _Messages(Console):
    def on_broken_pipe(self) -> None:
        """Say no more where nobody reads: a training job outlives the terminal that it was started from."""
        self.quiet = True


messages = _Messages(stderr=True, highlight=False, soft_wrap=True)
"""Progress, notes and errors go to standard error."""

PLAIN_LINE_SECONDS = 10.0
"""Without a terminal, at most one progress line in this time."""


def note(text: str) -> None:
    """Print one line about what is going on; a terminal that is gone ends nothing."""
    with suppress(OSError):
        messages.print(text, markup=False)


def warn(text: str) -> None:
    """Print one line that the user should not miss."""
    messages.print(f"warning: {text}", style="yellow", markup=False)


def print_wide(shown: RenderableType, least_width: int) -> None:
    """Print a table to standard output as if there were so many columns: a narrower terminal breaks its lines.

    (Rich's own `width` never exceeds the terminal's, or 80 where there is none, and cuts figures.)
    """
    Console(file=console.file, highlight=False, width=max(console.width, least_width)).print(shown)


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


def human_seconds(seconds: float) -> str:
    """Return a duration as `12.3 s`, `4 min 05 s` or `3 h 07 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


@contextmanager
def progress(label: str, total: float, unit: str = "", has_bar: bool = True) -> Iterator[Callable[[float, str], None]]:
    """Show a bar with rate and time left; yields `update(completed, detail)`, cheap enough to call often.

    Without the bar there are `columns_for_detail(label)` for the detail.
    """
    if not _redraws():
        yield _plain_updates(label, total, unit)
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        *([BarColumn(bar_width=30)] if has_bar else []),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages, transient=True) as bar:
        task = bar.add_task(label, total=total, detail="")

        def update(completed: float, detail: str = "") -> None:
            bar.update(task, completed=completed, detail=detail)

        yield update


def _redraws() -> bool:
    """Tell whether progress is drawn in place; elsewhere it is plain lines."""
    return messages.is_terminal and not os.environ.get("CI")


def columns_for_detail(label: str) -> int | None:
    """Return how many columns a detail may take beside a label, its percentage and the time left; None: no terminal."""
    if not _redraws():
        return None
    return messages.width - len(f"{label} 100%  00:00:00")


def _plain_updates(label: str, total: float, unit: str) -> Callable[[float, str], None]:
    last = time.monotonic()
    first: tuple[float, float] | None = None

    def update(completed: float, detail: str = "") -> None:
        nonlocal last, first
        now = time.monotonic()
        first = first or (now, completed)  # what was done before, and the time to get going, say nothing about the rate
        if now - last < PLAIN_LINE_SECONDS or completed <= first[1]:
            return
        last = now
        left = (now - first[0]) / (completed - first[1]) * (total - completed)
        print(
            f"{label}: {completed:,.0f} of {total:,.0f} {unit} {detail} ({human_seconds(left)} left)",
            file=sys.stderr,
            flush=True,
        )

    return update
