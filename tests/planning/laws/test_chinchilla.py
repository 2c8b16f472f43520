"""The fit on the 240 runs of Chinchilla that Besiroglu et al. 2024 read off a figure.

Expected numbers: arXiv:2404.10102, table 1 and its repository, with more digits from this fit.
"""

from pathlib import Path

import numpy as np
import pytest

from pipeline.planning.laws.fit import FittedLaw, fit_law
from pipeline.planning.laws.intervals import interval_of, numbers_of
from pipeline.planning.laws.isoflop import isoflop_budgets
from pipeline.planning.laws.points import PointTable, select_points
from pipeline.planning.laws.points_file import read_points
from pipeline.planning.laws.refusals import refusals

TABLE = Path(__file__).with_name("chinchilla_points.csv")
COUNT = "parameters"


@pytest.fixture(scope="module")
def table() -> PointTable:
    return read_points(TABLE, "nats")


@pytest.fixture(scope="module")
def fitted(table: PointTable) -> FittedLaw:
    return fit_law(select_points(table, drop_highest=5).kept, COUNT, "Chinchilla", "nats")


def test_the_table_has_its_points(table: PointTable) -> None:
    assert len(table.points) == 245
    assert table.counts == [COUNT]
    assert table.points[0].tokens == pytest.approx(9.993852799709e18 / 6 / 6795600349.28)


def test_without_the_five_highest_losses(fitted: FittedLaw) -> None:
    law = fitted.law
    assert len(fitted.points) == 240
    assert f"{fitted.objective:.10f}" == "0.0010182740"
    assert f"{law.parameter_factor:.2f}" == "477.83"
    assert f"{law.token_factor:.1f}" == "2143.4"
    assert f"{law.irreducible:.5f}" == "1.81722"
    assert f"{law.parameter_exponent:.5f}" == "0.34731"
    assert f"{law.token_exponent:.5f}" == "0.36717"
    assert f"{law.optimal_exponent:.5f}" == "0.51390"


def test_chinchillas_compute_at_its_optimum(fitted: FittedLaw) -> None:
    assert f"{fitted.law.optimal_parameters(5.76e23):.3e}" == "7.319e+10"
    assert f"{fitted.law.optimal_tokens(5.76e23):.3e}" == "1.312e+12"


def test_all_points(table: PointTable) -> None:
    law = fit_law(table.points, COUNT, "all", "nats", resamples=0).law
    assert f"{law.irreducible:.5f}" == "1.89134"
    assert f"{law.parameter_exponent:.5f}" == "0.34931"
    assert f"{law.token_exponent:.5f}" == "0.45305"


def test_intervals_of_400_resamples(fitted: FittedLaw) -> None:
    assert len(fitted.resampled) == 400
    intervals = {number.symbol: number.interval for number in numbers_of(fitted)}
    for symbol, low, high in (("E", 1.773, 1.875), ("alpha", 0.315, 0.371), ("beta", 0.337, 0.420)):
        assert intervals[symbol].low == pytest.approx(low, abs=0.02)
        assert intervals[symbol].high == pytest.approx(high, abs=0.02)


def test_everything_is_identified(fitted: FittedLaw) -> None:
    assert [number.symbol for number in numbers_of(fitted) if not number.is_identified] == []


def test_an_interval_holds_its_value(fitted: FittedLaw) -> None:
    optimum = interval_of(fitted, lambda law: law.optimal_parameters(5.76e23))
    assert optimum.low < optimum.value < optimum.high
    assert optimum.value == fitted.law.optimal_parameters(5.76e23)


def test_resamples_follow_from_the_seed(table: PointTable) -> None:
    points = select_points(table, drop_highest=5).kept[::12]
    first, again, other = (
        fit_law(points, COUNT, "few", "nats", resamples=3, seed=seed).resampled
        for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other


def test_the_points_are_no_isoflop_grid_and_allow_a_fit(table: PointTable) -> None:
    selection = select_points(table)
    assert isoflop_budgets(selection.kept, COUNT) == []
    assert refusals(selection, COUNT) == []
    assert np.isfinite([point.loss for point in selection.kept]).all()
