"""The loss of guessing in the figures of a batch study."""

import math

from pipeline.planning.batch_size.batch_figures import RELATIVE, batch_figures
from pipeline.planning.batch_size.batch_results import BatchResult
from pipeline.planning.batch_size.guessing import with_guessing

RESULTS = [
    BatchResult(256, {"learning_rate_scaling": "linear"}, (2.0, 2.0), 8, 0.01),
    BatchResult(512, {"learning_rate_scaling": "linear"}, (2.5, 9.0), 4, 0.02),
]


def test_figures_with_a_loss_above_guessing_have_its_line() -> None:
    """A vocabulary of 64: ln 64 = 4.1589 nats, 107.9 % above the reference of 2 nats."""
    tables = with_guessing(batch_figures(RESULTS, 256), RESULTS, 256, 64)
    for table in tables:
        (line,) = table.points_of("chance")
        expected = math.log(64)
        if table.name == RELATIVE:
            expected = 100 * (math.log(64) / 2 - 1)
        assert (line.series, line.y) == ("guessing, ln 64 = 4.16 nats", expected)
    assert len(tables) == 3


def test_without_such_a_loss_the_figures_stay_as_they_are() -> None:
    """ln 10,000 = 9.21 is above all losses."""
    tables = batch_figures(RESULTS, 256)
    assert with_guessing(tables, RESULTS, 256, 10_000) == tables
    assert with_guessing(tables, RESULTS, 256, None) == tables
