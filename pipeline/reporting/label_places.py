"""Places of labels beside the points of a figure, so that no label covers another or a point.

Pure geometry, in any unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

DISTANCES = (1.0, 1.7, 2.4)
"""Tried distances of a label from its point, in point radii; the nearest free one is taken."""


@dataclass(frozen=True)
class Box:
    """A rectangle whose sides are parallel to the axes."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        """Tell whether two boxes share more than an edge."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def holds(self, other: "Box") -> bool:
        """Tell whether the other box lies inside, edges included."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.bottom <= other.bottom
            and other.top <= self.top
        )


@dataclass(frozen=True)
class LabelledPoint:
    """A point, half the side of the square that it covers, and the size of its label."""

    x: float
    y: float
    radius: float
    width: float
    height: float

    @property
    def marker(self) -> Box:
        """The square that the point covers."""
        return Box(
            self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius
        )


def place_labels(points: Sequence[LabelledPoint], bounds: Box) -> list[Box | None]:
    """Return where the label of each point goes; None for a label that has no room.

    Earlier points choose first.
    """
    markers = [point.marker for point in points]
    taken: list[Box] = []
    places: list[Box | None] = []
    for point in points:
        place = _free_place(point, bounds, [*markers, *taken])
        if place is not None:
            taken.append(place)
        places.append(place)
    return places


def _free_place(point: LabelledPoint, bounds: Box, obstacles: Sequence[Box]) -> Box | None:
    """Return the first candidate that is inside and covers nothing."""
    for candidate in _candidates(point):
        is_free = not any(candidate.overlaps(box) for box in obstacles)
        if is_free and bounds.holds(candidate):
            return candidate
    return None


def _candidates(point: LabelledPoint) -> list[Box]:
    """Return places around a point: right and left of it, above and below, then the corners."""
    candidates: list[Box] = []
    for distance in DISTANCES:
        gap = distance * point.radius
        right = point.x + gap
        left = point.x - gap - point.width
        middle = point.x - point.width / 2
        above = point.y + gap
        below = point.y - gap - point.height
        level = point.y - point.height / 2
        corners = [
            (right, level),
            (left, level),
            (middle, above),
            (middle, below),
            (right, above),
            (right, below),
            (left, above),
            (left, below),
        ]
        candidates += [Box(x, y, x + point.width, y + point.height) for x, y in corners]
    return candidates
