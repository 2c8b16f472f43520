"""Drawn tables: their texts, what the frame holds, and the same bytes for the same numbers."""

import re

import pytest

from pipeline.reporting.study.table_drawing import FigureLook, draw_table, standalone_svg
from pipeline.store.studies.figure_table import FigurePoint, FigureTable

POINTS = [
    FigurePoint("run", "N = 2k", 1e11, 3.5, name="first"),
    FigurePoint("run", "N = 2k", 1e12, 3.25),
    FigurePoint("run", "<b>N", 1e12, 3.0, 2.9, 3.1),
    FigurePoint("left out", "left out of the fit", 1e11, 3.75),
    FigurePoint("fit", "fit", 1e11, 3.5, 3.4, 3.6),
    FigurePoint("fit", "fit", 1e12, 3.0, 2.9, 3.1),
    FigurePoint("beyond", "fit", 1e12, 3.0, 2.9, 3.1),
    FigurePoint("beyond", "fit", 1e13, 2.75, -90.0, 90.0),
    FigurePoint("vertex", "N = 2k", 2e11, 3.25),
    FigurePoint("optimum", "N = 2k", 1e30, 90.0),
    FigurePoint("published", "others", 1e11, 3.0),
    FigurePoint("chance", "guessing", 1e11, 2.5),
    FigurePoint("threshold", "fitted", 2e11, 3.0),
]
TABLE = FigureTable("loss", "flops", "nats", POINTS)
LOOK = FigureLook("compute", "loss", is_x_compute=True, is_wide=True)


def labels_of(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def test_every_curve_and_mark_has_its_entry_in_the_legend() -> None:
    labels = labels_of(draw_table(TABLE, LOOK))
    assert [label for label in labels if label[0] not in "123456789"] == [
        "compute",
        "loss",
        "N = 2k",
        "&lt;b&gt;N",
        "left out of the fit",
        "fit, 95 % band",
        "beyond the runs",
        "minimum of the parabola",
        "optimum by the fit",
        "others",
        "guessing",
        "fitted",
    ]


def test_the_frame_holds_the_values_and_neither_bands_nor_a_far_optimum() -> None:
    labels = labels_of(draw_table(TABLE, LOOK))
    ticks = [label for label in labels if label[0] in "123456789"]
    assert ticks == ["1e11", "1e12", "1e13", "2.5", "2.75", "3", "3.25", "3.5", "3.75"]


def test_the_same_numbers_give_the_same_bytes_and_a_file_names_its_name_space() -> None:
    svg = draw_table(TABLE, LOOK)
    assert draw_table(TABLE, LOOK) == svg
    assert "http" not in svg
    alone = standalone_svg(svg)
    assert alone.startswith('<svg xmlns="http://www.w3.org/2000/svg" ')
    assert alone.count("xmlns") == 1


def test_numbers_of_examples_have_a_tick_each_with_0_among_them() -> None:
    points = [FigurePoint("run", "N = 1k", k, 0.5 + k / 100) for k in (0, 1, 5, 32)]
    table = FigureTable("accuracy", "examples", "accuracy", points)
    look = FigureLook("k", "accuracy", x_scale="examples")
    assert labels_of(draw_table(table, look))[:4] == ["0", "1", "5", "32"]


def test_numbers_of_devices_have_ticks_at_powers_of_two() -> None:
    points = [FigurePoint("run", "weak", devices, 100.0 * devices) for devices in (1, 2, 4, 8)]
    table = FigureTable("throughput", "devices", "tokens_per_second", points)
    look = FigureLook("devices K", "tokens/s", x_scale="devices")
    assert labels_of(draw_table(table, look))[:4] == ["1", "2", "4", "8"]


@pytest.mark.parametrize(("least", "expected"), [(0.0, "4e-05"), (0.2, "0.09")])
def test_differences_that_are_nothing_are_not_blown_up(least: float, expected: str) -> None:
    points = [FigurePoint("run", "N = 1k", 1, 0.0), FigurePoint("run", "N = 1k", 2, 4e-5)]
    table = FigureTable("residuals", "loss", "percent", points)
    look = FigureLook("loss", "%", x_scale="linear", least_y_range=least)
    assert expected in labels_of(draw_table(table, look))


def test_a_long_legend_below_makes_the_figure_higher_and_not_its_axes_lower() -> None:
    look = FigureLook("K", "loss")
    heights: list[float] = []
    for curves in (2, 14):
        points = [
            FigurePoint("run", f"a curve with a long name, {n}", x, 1 + n)
            for n in range(curves)
            for x in (1, 2)
        ]
        svg = draw_table(FigureTable("loss", "k", "nats", points), look)
        heights.append(float(re.findall(r'height="([\d.]+)pt"', svg)[0]))
    assert heights[1] - heights[0] == pytest.approx(10 * 0.18 * 72, abs=1)


def test_what_is_above_guessing_flattens_no_curve() -> None:
    """A loss of 19 beside 4 to 5; the frame ends at 6, the loss of guessing."""
    points = [
        FigurePoint("run", "a", 1, 4.0),
        FigurePoint("run", "a", 2, 5.0),
        FigurePoint("run", "a", 4, 19.0),
    ]
    guessing = FigurePoint("chance", "guessing", 1, 6.0)
    table = FigureTable("loss", "k", "nats", [*points, guessing])
    ticks = labels_of(draw_table(table, FigureLook("K", "loss", is_cut_at_chance=True)))
    heights = [float(tick) for tick in ticks if tick[0] in "123456789"]
    assert max(heights) == 6
    whole = labels_of(draw_table(table, FigureLook("K", "loss")))
    assert max(float(tick) for tick in whole if tick[0] in "123456789") > 15
