"""The page of published runs: its figure, its tables, and text that is escaped."""

from html_outline import Outline

from pipeline.reporting.milestones_page import Milestone, compute_over_years, milestones_page

POINTS = [
    Milestone("small run", 2020.0, 1e20, is_counted=True),
    Milestone("large run", 2024.5, 1e25, is_counted=False),
]
PLANNED = Milestone("my <b>run", 2026.2, 3e21, is_counted=True)
FIGURES = (("run", "FLOPs"), [["small run", "1e20"], ["large run", "1e25"]])
SOURCES = (("run", "source"), [["small run", "a <i>paper"], ["large run", "a page"]])


def test_the_page_has_a_figure_and_two_tables() -> None:
    page = milestones_page(POINTS, PLANNED, FIGURES, SOURCES)
    outline = Outline(page)
    assert outline.open == []
    assert outline.pictures == 1
    assert page.count("<table>") == 2
    assert "The star, at the right end, is the planned run, counted as 6 N D" in page
    assert "On a narrow screen, scroll the figure to the right" in page
    assert "a &lt;i&gt;paper" in page
    assert "<b>run" not in page


def test_names_stand_in_the_figure_and_the_same_numbers_give_the_same_bytes() -> None:
    figure = compute_over_years(POINTS, PLANNED)
    for name in ("small run", "large run", "my &lt;b&gt;run"):
        assert f">{name}</text>" in figure
    assert ">1e20</text>" in figure
    assert compute_over_years(POINTS, PLANNED) == figure


def test_names_of_landmarks_have_room_before_those_of_larger_runs() -> None:
    """Two runs at almost one place, whose names do not both fit."""
    crowd = [
        Milestone(f"a rather long name, number {number}", 2022.0, 1e22 * 1.01**number, True)
        for number in range(40)
    ]
    last = Milestone("landmark", 2022.0, 1e22, is_counted=True)
    ends = [*POINTS, *crowd]
    assert ">landmark</text>" not in compute_over_years([*ends, last], None)
    landmark = Milestone("landmark", 2022.0, 1e22, is_counted=True, is_landmark=True)
    assert ">landmark</text>" in compute_over_years([*ends, landmark], None)


def test_only_a_planned_run_is_drawn_as_a_star() -> None:
    assert "#d9762b" in compute_over_years(POINTS, PLANNED)
    assert "#d9762b" not in compute_over_years(POINTS, None)
    assert "The star" not in milestones_page(POINTS, None, FIGURES, SOURCES)
