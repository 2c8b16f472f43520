"""Which points of a table a fit uses, and with which reasons others are dropped."""

import math
from dataclasses import replace

from law_points import COUNT

from pipeline.planning.laws.points import (
    DroppedPoint,
    LawPoint,
    PointTable,
    complete_point,
    groups_of,
    select_points,
)


def point(name: str, loss: float = 3.0) -> LawPoint:
    return complete_point(name, {COUNT: 1e6}, loss, tokens=2e7)


def table_of(*points: LawPoint) -> PointTable:
    return PointTable("points.csv", "nats", points)


def test_tokens_and_flops_follow_from_each_other() -> None:
    assert point("a").flops == 6 * 1e6 * 2e7
    assert complete_point("a", {COUNT: 1e6}, 3.0, flops=1.2e14).tokens == 2e7


def test_each_dropped_point_has_its_reason() -> None:
    selection = select_points(
        table_of(
            point("good"),
            point("diverged", math.nan),
            replace(point("short"), steps=199.0),
            replace(point("enough"), steps=200.0),
            replace(point("rolled"), left_out="rolled back at step 300"),
            point("unwanted"),
        ),
        leave_out=["unwanted"],
    )
    assert [kept.name for kept in selection.kept] == ["good", "enough"]
    assert selection.dropped == (
        DroppedPoint("diverged", "its loss is nan"),
        DroppedPoint("short", "199 steps, fewer than 200"),
        DroppedPoint("rolled", "rolled back at step 300"),
        DroppedPoint("unwanted", "asked for"),
    )


def test_the_highest_losses_are_dropped_among_those_that_remain() -> None:
    points = [
        point("a", 3.0),
        point("b", 5.0),
        point("c", 4.0),
        replace(point("d", 9.0), left_out="x"),
    ]
    selection = select_points(table_of(*points), drop_highest=2)
    assert [kept.name for kept in selection.kept] == ["a"]
    assert DroppedPoint("b", "one of the 2 highest losses") in selection.dropped


def test_of_equal_points_as_many_are_dropped_as_asked() -> None:
    selection = select_points(table_of(point("a"), point("a"), point("a")), drop_highest=1)
    assert len(selection.kept) == 2


def test_amounts_within_five_percent_are_one_group() -> None:
    points = [
        complete_point(str(flops), {COUNT: 1e6}, 3.0, flops=flops) for flops in (106, 100, 104, 300)
    ]
    groups = groups_of(points, lambda each: each.flops)
    assert [[each.name for each in group] for group in groups] == [["100", "104"], ["106"], ["300"]]


def test_a_way_of_counting_must_be_there_for_every_point_that_counts() -> None:
    both = replace(point("a"), counts={"parameters_total": 2e6, "parameters_multiplying": 1e6})
    one = replace(point("b"), counts={"parameters_multiplying": 1e6})
    assert table_of(both, both).counts == ["parameters_total", "parameters_multiplying"]
    assert table_of(both, one).counts == ["parameters_multiplying"]
    assert table_of(both, replace(one, left_out="short")).counts == [
        "parameters_total",
        "parameters_multiplying",
    ]
