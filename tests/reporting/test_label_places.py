"""Places of labels, in units that can be counted by hand."""

import random
from itertools import combinations

from pipeline.reporting.label_places import Box, LabelledPoint, place_labels

BOUNDS = Box(0, 0, 100, 100)


def test_a_lonely_label_stands_on_the_right() -> None:
    assert place_labels([LabelledPoint(50, 50, 1, 10, 4)], BOUNDS) == [Box(51, 48, 61, 52)]


def test_a_label_at_the_edge_stands_on_the_left() -> None:
    assert place_labels([LabelledPoint(95, 50, 1, 10, 4)], BOUNDS) == [Box(84, 48, 94, 52)]


def test_a_label_avoids_points_and_earlier_labels() -> None:
    # The point on the right is in the way, then the first label.
    points = [LabelledPoint(50, 50, 1, 10, 4), LabelledPoint(55, 50, 1, 10, 4)]
    first, second = place_labels(points, BOUNDS)
    assert first == Box(39, 48, 49, 52)
    assert second == Box(56, 48, 66, 52)


def test_a_larger_point_keeps_its_label_farther_away() -> None:
    assert place_labels([LabelledPoint(50, 50, 5, 10, 4)], BOUNDS) == [Box(55, 48, 65, 52)]


def test_a_label_without_room_is_left_out() -> None:
    points = [LabelledPoint(50, 50, 1, 10, 4), LabelledPoint(50, 50, 1, 200, 4)]
    assert place_labels(points, BOUNDS) == [Box(51, 48, 61, 52), None]


def test_no_label_of_a_crowd_covers_another_or_a_point() -> None:
    draw = random.Random(1)
    points = [
        LabelledPoint(draw.uniform(0, 100), draw.uniform(0, 100), 0.5, draw.uniform(5, 15), 3)
        for _ in range(60)
    ]
    placed = [box for box in place_labels(points, BOUNDS) if box is not None]
    assert len(placed) > 20
    assert not any(one.overlaps(other) for one, other in combinations(placed, 2))
    assert not any(box.overlaps(point.marker) for box in placed for point in points)
    assert all(BOUNDS.holds(box) for box in placed)


def test_boxes_that_share_an_edge_do_not_overlap() -> None:
    assert not Box(0, 0, 1, 1).overlaps(Box(1, 0, 2, 1))
    assert Box(0, 0, 1, 1).overlaps(Box(0.9, 0.9, 2, 2))
