"""The numbers of the figures on times to targets."""

from pipeline.planning.time_to.targets import Target, arrival
from pipeline.planning.time_to.time_to_figures import time_to_figures
from pipeline.planning.time_to.timed_run import Reading, TimedRun


def run(name: str, speed: float, seconds_a_step: float, ranks: int = 1) -> TimedRun:
    losses = [
        Reading(step, 10 * step, 6.0 - step, seconds_a_step * step, 0.0, None) for step in (1, 2, 3)
    ]
    return TimedRun(name, name, ranks, 10, speed, losses, {})


def test_each_figure_holds_the_runs_the_targets_and_what_is_published() -> None:
    runs = [run("a", 5.0, 2.0), run("b", 10.0, 4.0, ranks=2)]
    target = Target(4.0)
    arrivals = [[arrival(each, target) for each in runs]]
    tables = {table.name: table for table in time_to_figures(runs, arrivals)}
    assert list(tables) == ["loss_over_time", "time_over_throughput", "time_over_devices"]

    over_time = tables["loss_over_time"]
    assert [(p.series, p.x, p.y) for p in over_time.points_of("run")][:3] == [
        ("a", 2.0, 5.0),
        ("a", 4.0, 4.0),
        ("a", 6.0, 3.0),
    ]
    assert [(p.series, p.y) for p in over_time.points_of("target")] == [("targets", 4.0)]

    # a is there after 4 s at 5 tokens/s: as many tokens at 10 tokens/s take 2 s.
    over_throughput = tables["time_over_throughput"]
    assert [(p.x, p.y) for p in over_throughput.points_of("run")] == [(5, 4), (10, 8)]
    assert [(p.x, p.y) for p in over_throughput.points_of("ideal")] == [(5, 4), (10, 2)]

    over_devices = tables["time_over_devices"]
    assert [(p.x, p.y) for p in over_devices.points_of("run")] == [(1, 4), (2, 8)]
    assert [(p.x, p.y) for p in over_devices.points_of("published")] == [(1024, 132), (2048, 74.7)]


def test_without_a_target_that_was_reached_the_losses_are_drawn_alone() -> None:
    runs = [run("a", 5.0, 2.0)]
    arrivals = [[arrival(each, Target(1.0)) for each in runs]]
    assert [table.name for table in time_to_figures(runs, arrivals)] == ["loss_over_time"]
    assert time_to_figures([], []) == []
