"""The table of a figure: its curves, and its numbers as CSV."""

from pipeline.store.studies.figure_table import FigurePoint, FigureTable

TABLE = FigureTable(
    "loss",
    "flops",
    "nats",
    [
        FigurePoint("run", "N = 2", 1e11, 3.5, name="a, b"),
        FigurePoint("run", "N = 1", 1e11, 3.25, name="c"),
        FigurePoint("fit", "fit", 1e11, 0.1, 0.05, 0.2),
    ],
)


def test_numbers_read_back_as_they_are_and_missing_ones_are_empty() -> None:
    assert TABLE.csv_text() == (
        "role,series,name,flops,nats,low,high\n"
        'run,N = 2,"a, b",100000000000.0,3.5,,\n'
        "run,N = 1,c,100000000000.0,3.25,,\n"
        "fit,fit,,100000000000.0,0.1,0.05,0.2\n"
    )


def test_curves_are_in_the_order_of_the_table() -> None:
    assert TABLE.series_of("run") == ["N = 2", "N = 1"]
    assert TABLE.series_of("run", "fit") == ["N = 2", "N = 1", "fit"]
    assert [point.y for point in TABLE.points_of("fit")] == [0.1]
