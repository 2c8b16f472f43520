"""The numbers of a figure of a study: what planning computes, reporting draws and a CSV file keeps.

Reads and writes nothing.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal[
    "run",
    "left out",
    "fit",
    "beyond",
    "optimum",
    "parabola",
    "vertex",
    "published",
    "chance",
    "ideal",
    "target",
    "threshold",
]
"""What a point of a figure is.

run: a run, or the mean of some. left out: a run that no fit uses. fit, beyond: a fitted law, inside
the computes of its runs and beyond them. optimum: a single point of the law. parabola, vertex: a
parabola through the runs of one compute, and its minimum. published: what others have published.
chance: the score of guessing. ideal: what there would be without losses.
target: a height that is to be reached. threshold: an x that a line marks, whatever its y."""


@dataclass(frozen=True)
class FigurePoint:
    """One line of a figure's table."""

    role: Role
    series: str
    """The curve that the point belongs to, as a legend names it."""
    x: float
    y: float
    low: float | None = None
    """Lower end of the band, or of the error bar; None without one."""
    high: float | None = None
    name: str = ""
    """The run's name, where the point is a single run."""


@dataclass(frozen=True)
class FigureTable:
    """All points of one figure."""

    name: str
    """Name of the figure's files, without their endings."""
    x: str
    """Column of x: quantity with its unit."""
    y: str
    points: Sequence[FigurePoint]

    def points_of(self, *roles: Role) -> list[FigurePoint]:
        """Return the points of some roles."""
        return [point for point in self.points if point.role in roles]

    def series_of(self, *roles: Role) -> list[str]:
        """Return the curves of some roles, in the order of the table."""
        return list(dict.fromkeys(point.series for point in self.points_of(*roles)))

    def csv_text(self) -> str:
        """Return the table as CSV; numbers read back as the same numbers."""
        head = ["role", "series", "name", self.x, self.y, "low", "high"]
        rows = [
            [point.role, point.series, point.name, point.x, point.y, point.low, point.high]
            for point in self.points
        ]
        return csv_text([head, *rows])


def csv_text(rows: Sequence[Sequence[str | float | None]]) -> str:
    """Return rows as CSV, None as an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow(["" if field is None else field for field in row])
    return text.getvalue()
