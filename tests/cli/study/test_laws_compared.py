"""What `pipeline study compare` prints of two tables."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from law_points import COUNT, grid_of
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.cli.study.laws_compared import CompareQuestion, show_law_comparison
from pipeline.errors import ConfigError, RequirementError
from pipeline.planning.laws.loss_law import LossLaw

SLOW = LossLaw("slow", 1.8, 10.0, 0.1, 10.0, 0.1)
FAST = LossLaw("fast", 1.8, 100.0, 0.2, 100.0, 0.2)
"""Their lowest losses are equal at C = 6e20: `tests/planning/laws/test_comparison.py`."""
BUDGETS = (1e19, 1e20, 1e21)


def written(
    path: Path, law: LossLaw, count: str = COUNT, budgets: Sequence[float] = BUDGETS
) -> Path:
    lines = [
        f"{point.counts[COUNT]!r},{point.tokens!r},{point.loss!r}"
        for point in grid_of(law, budgets)
    ]
    path.write_text("\n".join([f"{count},tokens,loss", *lines]))
    return path


def question(*tables: Path, count: str | None = None) -> CompareQuestion:
    return CompareQuestion(tables, "nats", count, resamples=40, seed=0)


def test_two_procedures_that_cross(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    slow = written(tmp_path / "slow.csv", SLOW)
    fast = written(tmp_path / "fast.csv", FAST)
    show_law_comparison(question(slow, fast), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "losses in nats a token, N = parameters"
    assert lines[1].startswith(
        f"{slow}: largest run, line 16 (C = 1.00e21), by a law of all others: "
    )
    assert lines[1].endswith("0.00%)")
    assert lines[4] == f"{slow} and {fast}"
    assert lines[-4:] == [
        "[ ]: 95 % bands, each for one compute alone (pointwise): at some of many computes a band can "
        "leave out 0 by chance",
        f"{slow} is better from C = 1e+19 to C = 5.62e+20",
        f"{fast} is better from C = 1e+21 on, as far as the axis goes (C = 1e+23)",
        "the two curves cross at C = 6e+20 [6e+20, 6e+20]",
    ]
    first = next(line for line in lines if line.startswith("1.00e19"))
    assert first.split()[1] == f"{SLOW.optimal_loss(1e19):.5g}"


def test_a_table_against_itself_is_not_separable(tmp_path: Path) -> None:
    path = written(tmp_path / "slow.csv", SLOW)
    arguments = ["study", "compare", str(path), str(path), "--resamples", "40", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    (comparison,) = json.loads(result.stdout)["comparisons"]
    assert comparison["stretches"] == []
    assert comparison["crossing"] is None
    assert len(comparison["axis"]) == len(comparison["difference"]) == 17


def test_of_three_tables_each_pair_is_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tables = [written(tmp_path / f"{name}.csv", SLOW) for name in "abc"]
    show_law_comparison(question(*tables), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [
        (Path(comparison["first"]).stem, Path(comparison["second"]).stem)
        for comparison in found["comparisons"]
    ] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert len(found["largest_runs"]) == 3


def test_one_table_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name two tables or more"):
        show_law_comparison(question(written(tmp_path / "a.csv", SLOW)), as_json=False)


def test_n_must_be_counted_in_one_way(tmp_path: Path) -> None:
    first = written(tmp_path / "a.csv", SLOW)
    second = written(tmp_path / "b.csv", FAST, count="parameters_total")
    with pytest.raises(ConfigError) as raised:
        show_law_comparison(question(first, second), as_json=False)
    assert raised.value.problems == [
        "--count (any): N must be counted in one way in all tables; "
        f"{first} has parameters; {second} has parameters_total. Add the column, or name another with "
        "--count"
    ]
    with pytest.raises(ConfigError, match=r"--count parameters_total: N must be counted"):
        show_law_comparison(question(first, first, count="parameters_total"), as_json=False)


def test_points_without_a_law_are_not_compared(tmp_path: Path) -> None:
    first = written(tmp_path / "a.csv", SLOW)
    second = written(tmp_path / "b.csv", FAST, budgets=(1e19, 1e20))
    with pytest.raises(RequirementError, match=r"b\.csv: no law is fitted"):
        show_law_comparison(question(first, second), as_json=False)
