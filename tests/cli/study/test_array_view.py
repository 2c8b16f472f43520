"""Which arrays a study needs under Slurm, by hand."""

import pytest

from pipeline.cli.study.array_view import elements_by_nodes
from pipeline.errors import ConfigError
from pipeline.planning.study.axes import Place


def test_runs_on_the_same_number_of_nodes_are_one_array() -> None:
    """Nodes of 4: 4 ranks take one, 8 two; a run whose ranks are not given takes the executor's."""
    places = [Place({"ranks": ranks}) for ranks in (4, 8, 8, 4, 4)]
    assert elements_by_nodes(places, 3, 4) == {1: 3, 2: 2}
    assert elements_by_nodes([Place(), Place()], 3, 4) == {3: 2}


def test_ranks_that_do_not_fill_nodes_are_refused() -> None:
    places = [Place({"ranks": ranks}) for ranks in (2, 4, 6)]
    with pytest.raises(ConfigError) as refused:
        elements_by_nodes(places, 1, 4)
    assert refused.value.problems == [
        "axes.ranks: 2 ranks do not fill whole nodes of 4; give 4 or 8",
        "axes.ranks: 6 ranks do not fill whole nodes of 4; give 4 or 8",
    ]
