"""Short names of runs: they stay different, and what was left out is said."""

import pytest

from pipeline.reporting.many_runs.run_names import legend_labels, shown_names


def test_short_names_stay_as_they_are() -> None:
    shown = shown_names(["sweep-a", "sweep-b"])
    assert (shown.names, shown.remark) == (["sweep-a", "sweep-b"], "")


def test_what_all_share_is_left_out_and_said() -> None:
    names = ["runs/sweep/w32-b2048-adamw-s1/run", "runs/sweep/w32-b2048-muon-s1/run"]
    shown = shown_names(names)
    assert shown.names == ["adamw", "muon"]
    assert shown.remark == (
        "Names are shown without the beginning runs/sweep/w32-b2048- and the end -s1/run that all share."
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # Words are not cut, and no name is left empty.
        (
            ["a-rather-long-name-of-a-run-lr001", "a-rather-long-name-of-a-run-lr002"],
            ["lr001", "lr002"],
        ),
        (["a-rather-long-name-of-a-run-b", "a-rather-long-name-of-a-run-b-c"], ["b", "b-c"]),
        (["a-rather-long-name-of-a-run-c", "a-rather-long-name-of-a-run--c"], ["c", "-c"]),
        (["one-name-that-is-quite-long", "b"], ["one-name-that-is-quite-long", "b"]),
    ],
)
def test_names_are_cut_between_words(names: list[str], expected: list[str]) -> None:
    assert shown_names(names).names == expected


def test_labels_of_a_legend_are_short_and_different() -> None:
    long = "x" * 30 + "{}" + "y" * 30
    labels = legend_labels([long.format(1), long.format(2), "c"])
    assert labels[0] == "x" * 20 + "…" + "y" * 20
    assert labels[1:] == [f"{labels[0]} (2)", "c"]
