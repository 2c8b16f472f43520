"""A throughput study's figures: the ideal beside the runs, and captions that name what is drawn."""

from pipeline.reporting.study.table_drawing import draw_table
from pipeline.reporting.study.throughput_looks import throughput_caption, throughput_look
from pipeline.store.studies.figure_table import FigurePoint, FigureTable

RUN = FigurePoint("run", "weak", 2, 190.0, 185.0, 195.0)
POINTS = [
    FigurePoint("run", "weak", 1, 100.0),
    RUN,
    FigurePoint("ideal", "ideal", 1, 100.0),
    FigurePoint("ideal", "ideal", 8, 800.0),
    FigurePoint("published", "others", 1, 100.0),
    FigurePoint("published", "others", 2, 198.0),
]


def test_the_ideal_has_its_entry_in_the_legend() -> None:
    table = FigureTable("throughput", "devices", "tokens_per_second", POINTS)
    svg = draw_table(table, throughput_look(table))
    for label in ("ideal", "weak", "others", "devices K (data-parallel ranks)"):
        assert label in svg


def test_captions_name_only_what_is_drawn() -> None:
    whole = FigureTable("efficiency", "devices", "efficiency_percent", POINTS)
    assert "Grey: weak scaling of others" in throughput_caption(whole)
    assert "t_c" not in throughput_caption(whole)
    few = FigureTable("communication", "devices", "communication_percent", [RUN])
    assert "took turns in one process" in throughput_caption(few)
    assert "Grey" not in throughput_caption(few)
    for table in (whole, few):
        assert draw_table(table, throughput_look(table)).startswith("<svg")
