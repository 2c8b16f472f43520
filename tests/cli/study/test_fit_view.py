"""What `pipeline study fit` prints and writes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from law_points import COUNT, SLANTED, grid_of
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.cli.study.fit_view import FitQuestion, show_fits
from pipeline.errors import ConfigError, RequirementError, UserError
from pipeline.planning.laws.fits_file import read_laws
from pipeline.planning.laws.points import LawPoint

TABLE = Path(__file__).parents[2] / "planning" / "laws" / "chinchilla_points.csv"


def question(path: Path, output: Path | None = None) -> FitQuestion:
    return FitQuestion(
        points=path,
        unit="nats",
        leave_out=[],
        drop_highest=0,
        resamples=40,
        seed=0,
        computes=[],
        output=output,
    )


def written(folder: Path, points: list[LawPoint]) -> Path:
    path = folder / "points.csv"
    lines = [
        f"{point.counts[COUNT]!r},{point.tokens!r},{point.loss!r},{point.left_out}"
        for point in points
    ]
    path.write_text("\n".join([f"{COUNT},tokens,loss,left_out", *lines]))
    return path


def test_chinchillas_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = replace(
        question(TABLE, tmp_path / "laws.json"), drop_highest=5, computes=[5.76e23], resamples=40
    )
    show_fits(asked, as_json=False)
    printed = capsys.readouterr().out
    assert "chinchilla_points.csv: 245 points, losses in nats a token; 240 used\n" in printed
    assert (
        "5 not used, one of the 5 highest losses: line 5, line 6, line 7, line 8, line 9" in printed
    )
    assert "objective 0.0010182740: sum of Huber losses of log L over 240 points" in printed
    assert re.search(r"^E +1\.8172 +\[1\.7\d+, 1\.8\d+\] +irreducible loss *$", printed, re.M)
    assert re.search(r"^beta +0\.36717 ", printed, re.MULTILINE)
    assert re.search(r"^5\.76e23\* +7\.319e10 +\[.*\] +1\.312e12 ", printed, re.MULTILINE)
    assert re.search(r"^1\.00e22 +9\.115e9 ", printed, re.MULTILINE)
    assert "largest run, line 249 (C = 1.30e22), by a law of all others: 2.13" in printed
    assert "parabolas" not in printed
    assert max(len(line) for line in printed.splitlines()[7:-1]) <= 98
    assert [stored.count for stored in read_laws(tmp_path / "laws.json")] == [COUNT]


def test_a_grid_is_shown_with_its_parabolas_and_written_beside_the_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    points = grid_of(SLANTED, budgets=(1e10, 1e11, 1e12, 1e13))
    points[7] = replace(points[7], left_out="rolled back")
    # Noise: without it everything is identified.
    points = [
        replace(point, loss=point.loss * (1 + 0.003 * ((7 * place) % 5 - 2)))
        for place, point in enumerate(points)
    ]
    show_fits(question(written(tmp_path, points)), as_json=False)
    printed = capsys.readouterr().out
    assert "1 not used, rolled back: line 9" in printed
    assert re.search(r"^E .* not identified: wider than 10 %", printed, re.MULTILINE)
    assert "parabolas through each budget: a picture, biased even without noise" in printed
    assert len(re.findall(r"C = 1\.00e\d+: lowest at N = .*, inside the grid, ", printed)) == 4
    assert re.search(r"N_opt grows as C\^0\.\d+ by their minima", printed)
    assert (tmp_path / "fits.json").is_file()


def test_equal_ways_of_counting_are_fitted_and_printed_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "points.csv"
    lines = [
        f"{point.counts[COUNT]!r},{point.counts[COUNT]!r},{point.tokens!r},{point.loss!r}"
        for point in grid_of(SLANTED)
    ]
    path.write_text("\n".join(["parameters_total,parameters_multiplying,tokens,loss", *lines]))
    show_fits(question(path), as_json=False)
    printed = capsys.readouterr().out
    assert printed.count("L(N, D) = ") == 1
    assert "all parameters = parameters that multiply, in all points: one law\n" in printed
    assert [stored.count for stored in read_laws(tmp_path / "fits.json")] == [
        "parameters_total",
        "parameters_multiplying",
    ]


def test_a_compute_that_is_not_6_n_d_is_remarked_beside_the_optima(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The FLOPs of every point are 1.25 x 6 N D, as those of small models with attention."""
    path = tmp_path / "points.csv"
    lines = [
        f"{point.counts[COUNT]!r},{point.tokens!r},{1.25 * point.flops!r},{point.loss!r}"
        for point in grid_of(SLANTED)
    ]
    path.write_text("\n".join([f"{COUNT},tokens,flops,loss", *lines]))
    show_fits(question(path), as_json=False)
    assert (
        "\nThe law counts a compute as 6 N D, which is 80% to 80% of the runs' own FLOPs; those also "
        "count attention and what N leaves out.\n"
    ) in capsys.readouterr().out
    show_fits(question(written(tmp_path, grid_of(SLANTED))), as_json=False)
    assert "The law counts a compute" not in capsys.readouterr().out


def test_json_is_what_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show_fits(question(written(tmp_path, grid_of(SLANTED))), as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "fits.json").read_text())


def test_a_refused_fit_prints_the_points_first_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    points = grid_of(SLANTED, budgets=(1e18, 1e19))
    with pytest.raises(RequirementError, match="2 budgets of compute are left"):
        show_fits(question(written(tmp_path, points)), as_json=False)
    assert "10 points, losses in nats a token; 10 used" in capsys.readouterr().out
    assert not (tmp_path / "fits.json").exists()


def test_a_file_that_cannot_be_written_is_refused_before_the_fit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = written(tmp_path, grid_of(SLANTED))
    with pytest.raises(UserError, match=r"--output .*points\.csv is not a folder"):
        show_fits(question(path, output=path / "fits.json"), as_json=False)
    assert capsys.readouterr().out == ""


def test_wrong_options_are_named_at_once(tmp_path: Path) -> None:
    asked = replace(
        question(written(tmp_path, grid_of(SLANTED))),
        leave_out=["line 2", "nobody"],
        computes=[-1.0, float("nan")],
    )
    with pytest.raises(ConfigError) as raised:
        show_fits(asked, as_json=False)
    assert raised.value.problems == [
        "--leave-out nobody: points.csv has no run of that name; rows without a name are called "
        "`line 7`",
        "--at -1.0: a compute is a finite number of FLOPs above 0, such as 1e21",
        "--at nan: a compute is a finite number of FLOPs above 0, such as 1e21",
    ]


def test_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, grid_of(SLANTED))
    result = CliRunner().invoke(
        app,
        ["study", "fit", str(path), "--unit", "bits", "--resamples", "40", "--leave-out", "line 2"],
    )
    assert result.exit_code == 0
    assert "20 points, losses in bits a token; 19 used" in result.output
    assert read_laws(tmp_path / "fits.json")[0].law.unit == "bits"
