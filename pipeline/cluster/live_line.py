"""The line on the terminal while a run trains: course of the loss, rate, step, scores."""

import itertools
import statistics
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from pipeline.logs import short
from pipeline.store.counts import ModelScore, scores_with_values
from pipeline.store.metrics import StepRecord, sampled_records
from pipeline.store.scores_folder import own_step

BLOCKS = "▁▂▃▄▅▆▇█"
LEAST_SPARK_WIDTH = 8
MOST_SPARK_WIDTH = 30
"""Columns of the course of the loss."""
MOST_POINTS = 256
"""The course of a run of any length has fewer points than this."""
RATES = 20
"""Number of last steps whose median rate is shown; the rate of a single step varies too much."""


def sparkline(values: Sequence[float], width: int) -> str:
    """Return finite values as a row of at most `width` blocks whose heights show the values.

    The lowest value, and each of equal values, is the lowest block. More than `width` values are
    averaged in groups whose sizes differ by at most one.
    """
    if len(values) > width > 0:
        ends = [len(values) * i // width for i in range(width + 1)]
        values = [statistics.fmean(values[first:end]) for first, end in itertools.pairwise(ends)]
    if not values or not width:
        return ""
    lowest = min(values)
    spread = max(values) - min(values)
    if not spread:
        return BLOCKS[0] * len(values)
    heights = [round((value - lowest) / spread * (len(BLOCKS) - 1)) for value in values]
    return "".join(BLOCKS[height] for height in heights)


class Course:
    """The losses of a run so far: each point is the mean of equally many steps."""

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
    """Return the course of the run so far, from a sample of its steps."""
    losses: dict[int, float] = {}
    for record in sampled_records(run_dir, MOST_POINTS // 2):
        if record["loss"] is not None:
            losses[record["step"]] = record["loss"]
    return Course(list(losses.values()), max(1, max(losses, default=1) // max(1, len(losses))))


class LiveLine:
    """Turns records of steps into the text beside the progress bar."""

    def __init__(self, course: Course, total_steps: int, before: "LiveLine | None" = None) -> None:
        """Begin with a course; the scores are those of the line `before` a new start."""
        self._course = course
        self._total_steps = total_steps
        self._rates: deque[float] = deque(maxlen=RATES)
        self._scores = ""
        if before is not None:
            self._scores = before._scores

    def add(self, record: StepRecord) -> None:
        """Take the record of another step."""
        if record["loss"] is not None:
            self._course.add(record["loss"])
        self._rates.append(record["tokens_per_second"])
        self._last = record

    def add_scores(self, table: Sequence[ModelScore]) -> None:
        """Take the table of scores: the mean accuracy of the newest checkpoint is shown.

        It is the mean over tasks at the smallest number of examples, which says whether a model
        gets better and nothing else.
        """
        rows = [
            row
            for row in scores_with_values(table)
            if row["metric"] == "acc" and own_step(row["model"], row["step"]) is not None
        ]
        if not rows:
            return
        step = max(row["step"] or 0 for row in rows)
        shots = min(row["shots"] for row in rows if row["step"] == step)
        values = [row["value"] for row in rows if (row["step"], row["shots"]) == (step, shots)]
        self._scores = f"acc {statistics.fmean(values):.3f} (k = {shots}, step {step:,})"

    def text(self, columns: int | None) -> str:
        """Return the text for a number of columns, without the least important parts if necessary.

        With None for `columns`, the whole text without the sparkline. At least one record must
        have been added.
        """
        # The parts come in the order of their importance.
        loss = "loss not finite"
        if self._last["loss"] is not None:
            loss = f"loss {self._last['loss']:.3f}"
        others = [
            f"{short(statistics.median(self._rates))} tokens/s",
            f"step {self._last['step']:,}/{self._total_steps:,}",
        ]
        if self._last["mfu"] is not None:
            others.append(f"mfu {self._last['mfu']:.1%}")
        if self._scores:
            others.append(self._scores)
        if columns is None:
            return "  ".join([loss, *others])

        # The sparkline takes the columns that are left.
        while others and len("  ".join([loss, *others])) + 1 + LEAST_SPARK_WIDTH > columns:
            others.pop()
        width = min(MOST_SPARK_WIDTH, columns - len("  ".join([loss, *others])) - 1)
        return "  ".join(
            [f"{loss} {sparkline(self._course.points, max(0, width))}".rstrip(), *others]
        )
