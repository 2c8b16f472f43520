"""`fits.json`: what is written is read again; what is no such file is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from law_points import COUNT, SLANTED, grid_of, selection_of

from pipeline.errors import ConfigError, DataError
from pipeline.planning.laws.fit_summary import FitSummary, summaries_of
from pipeline.planning.laws.fits_file import (
    law_of_all_parameters,
    read_law,
    read_laws,
    write_fits,
)

SELECTION = selection_of(grid_of(SLANTED), "bits")


@pytest.fixture(scope="module")
def summaries() -> list[FitSummary]:
    return list(summaries_of(SELECTION, resamples=8))


def test_a_law_is_read_as_it_was_written(tmp_path: Path, summaries: list[FitSummary]) -> None:
    path = tmp_path / "fits.json"
    write_fits(path, SELECTION, summaries)
    (stored,) = read_laws(path)
    assert stored.law == summaries[0].fitted.law
    assert stored.law.unit == "bits"
    assert stored.law.name == "points.csv"
    assert read_law(path, ["parameters_total", "parameters"]) == stored


def test_a_law_of_equal_counts_is_read_for_each(
    tmp_path: Path, summaries: list[FitSummary]
) -> None:
    both = ("parameters_total", "parameters_multiplying")
    write_fits(tmp_path / "fits.json", SELECTION, [replace(summaries[0], counts=both)])
    laws = read_laws(tmp_path / "fits.json")
    assert [stored.count for stored in laws] == list(both)
    assert laws[0].law == laws[1].law == summaries[0].fitted.law


def test_a_reader_finds_points_intervals_and_optima(
    tmp_path: Path, summaries: list[FitSummary]
) -> None:
    write_fits(tmp_path / "fits.json", SELECTION, summaries)
    content = json.loads((tmp_path / "fits.json").read_text())
    (fit,) = content["fits"]
    assert (content["unit"], content["resamples"], content["seed"]) == ("bits", 8, 0)
    assert len(content["points_used"]) == 20
    assert content["points_dropped"] == []
    assert fit["law"]["alpha"] == pytest.approx(0.5)
    assert [number["symbol"] for number in fit["numbers"]] == ["E", "A", "alpha", "B", "beta", "a"]
    assert set(fit["optima"][0]["parameters"]) == {"value", "low", "high"}
    assert len(fit["parabolas"]) == 4
    assert fit["largest_run"]["measured"] == pytest.approx(SELECTION.kept[-1].loss)


def test_a_parabola_without_a_minimum_is_null(tmp_path: Path, summaries: list[FitSummary]) -> None:
    parabola = replace(summaries[0].parabolas[0], minimum=math.nan, lowest=math.nan)
    summary = replace(summaries[0], parabolas=(parabola,))
    write_fits(tmp_path / "fits.json", SELECTION, [summary])
    text = (tmp_path / "fits.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["fits"][0]["parabolas"][0]["minimum"] is None


def test_another_way_of_counting_is_refused(tmp_path: Path, summaries: list[FitSummary]) -> None:
    write_fits(tmp_path / "fits.json", SELECTION, summaries)
    with pytest.raises(
        DataError,
        match=r"fits\.json: holds laws of parameters, and one of parameters_total is needed",
    ):
        read_law(tmp_path / "fits.json", ["parameters_total"])


def test_what_is_no_file_of_laws(tmp_path: Path, summaries: list[FitSummary]) -> None:
    path = tmp_path / "fits.json"
    with pytest.raises(DataError, match=r"does not exist\. Write it with `pipeline study fit`"):
        read_laws(path)
    path.write_text("[1]")
    with pytest.raises(DataError, match="is no file of fitted laws"):
        read_laws(path)
    path.write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        read_laws(path)
    write_fits(path, SELECTION, summaries)
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "version": 7}))
    with pytest.raises(DataError, match=r"has version 7, this program reads version 1"):
        read_laws(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "furlongs"}, "unit furlongs"),
        ({"fits": [{"counts": [COUNT]}]}, "law"),
        (
            {
                "fits": [
                    {"counts": [COUNT], "law": {"E": -1, "A": 1, "alpha": 1, "B": 1, "beta": 1}}
                ]
            },
            "E -1",
        ),
        (
            {
                "fits": [
                    {"counts": [COUNT], "law": {"E": None, "A": 1, "alpha": 1, "B": 1, "beta": 1}}
                ]
            },
            "float",
        ),
        ({"fits": 3}, "not iterable"),
    ],
)
def test_a_damaged_file_of_laws(
    tmp_path: Path, summaries: list[FitSummary], change: dict[str, object], message: str
) -> None:
    path = tmp_path / "fits.json"
    write_fits(path, SELECTION, summaries)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"is damaged \(.*{message}.*Fit the table again"):
        read_laws(path)


def test_a_plans_law_is_in_nats_and_names_its_file(
    tmp_path: Path, summaries: list[FitSummary]
) -> None:
    path = tmp_path / "fits.json"
    write_fits(path, SELECTION, summaries)
    law = law_of_all_parameters(path)
    assert law.unit == "nats"
    assert law.loss(1e6, 1e8) == pytest.approx(math.log(2) * SLANTED.loss(1e6, 1e8), rel=1e-6)
    assert law.name == f"points.csv, fitted in {path}"


def test_a_plan_takes_no_law_in_bits_per_byte(tmp_path: Path, summaries: list[FitSummary]) -> None:
    path = tmp_path / "fits.json"
    write_fits(path, selection_of(SELECTION.kept, "bits-per-byte"), summaries)
    with pytest.raises(
        ConfigError, match=r"points\.csv, fitted in .*: the law is in bits per byte"
    ):
        law_of_all_parameters(path)
