"""What the terminal shows of a run while it trains: the course of the loss, the rate, how far it
is."""

import itertools
import statistics
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.logs import short
from pipeline.store.metrics import sampled_records

BLOCKS = "▁▂▃▄▅▆▇█"
LEAST_SPARK_WIDTH = 8
MOST_SPARK_WIDTH = 30
MOST_POINTS = 256
"""The course of a run of any length is kept in fewer means than that."""
RATES = 20
"""Steps whose median rate is shown: that of a single one jumps."""


def sparkline(values: Sequence[float], width: int) -> str:
    """Return finite values as one row of at most `width` blocks, lowest to highest; equal values
    lie at the bottom.

    More values than that are averaged in groups that differ by at most one in size.
    """
    if len(values) > width > 0:
        ends = [len(values) * i // width for i in range(width + 1)]
        values = [statistics.fmean(values[first:end]) for first, end in itertools.pairwise(ends)]
    if not values or not width:
        return ""
    lowest = min(values)
    spread = max(values) - min(values)
    steps = [
        round((value - lowest) / spread * (len(BLOCKS) - 1)) if spread else 0 for value in values
    ]
    return "".join(BLOCKS[step] for step in steps)


class Course:
    """The losses of a run so far, each point the mean of equally many steps."""

    def __init__(self, points: Sequence[float] = (), steps_per_point: int = 1) -> None:
        self.points = list(points)
        self._steps_per_point = steps_per_point
        self._open: list[float] = []

    def add(self, loss: float) -> None:
        """Add one step's loss."""
        self._open.append(loss)
        if len(self._open) < self._steps_per_point:
            return
        self.points.append(statistics.fmean(self._open))
        self._open = []
        if len(self.points) == MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [(first + second) / 2 for first, second in pairs]
            self._steps_per_point *= 2


def course_so_far(run_dir: Path) -> Course:
    """Return the course of the run so far, from a hundred of its steps or so."""
    losses: dict[int, float] = {}
    for record in sampled_records(run_dir, MOST_POINTS // 2):
        if record["loss"] is not None:
            losses[record["step"]] = record["loss"]
    return Course(list(losses.values()), max(1, max(losses, default=1) // max(1, len(losses))))


class LiveLine:
    """Turns step records into the text beside the progress bar."""

    def __init__(self, course: Course, total_steps: int) -> None:
        self._course = course
        self._total_steps = total_steps
        self._rates: deque[float] = deque(maxlen=RATES)

    def add(self, record: dict[str, Any]) -> None:
        """Take one record of metrics.jsonl."""
        if record["loss"] is not None:
            self._course.add(record["loss"])
        self._rates.append(record["tokens_per_second"])
        self._last = record

    def text(self, columns: int | None) -> str:
        """Return what fits into so many columns, the least important left out; all of it, in words,
        where it is None.

        At least one record has been taken.
        """
        last = self._last
        mfu = self._last["mfu"]
        loss = f"loss {last['loss']:.3f}" if last["loss"] is not None else "loss not finite"
        others = [
            f"{short(statistics.median(self._rates))} tokens/s",
            f"step {last['step']:,}/{self._total_steps:,}",
            *([f"mfu {mfu:.1%}"] if mfu is not None else []),
        ]
        if columns is None:
            return "  ".join([loss, *others])
        while others and len("  ".join([loss, *others])) + 1 + LEAST_SPARK_WIDTH > columns:
            others.pop()
        width = min(MOST_SPARK_WIDTH, columns - len("  ".join([loss, *others])) - 1)
        return "  ".join(
            [f"{loss} {sparkline(self._course.points, max(0, width))}".rstrip(), *others]
        )
