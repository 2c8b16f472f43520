"""What `pipeline study compare` prints of two tables."""

import json
from collections.abc import Sequence
from dataclasses import replace
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


def with_text(path: Path, column: str, texts: Sequence[str]) -> Path:
    """Add a column to a table; the texts are repeated in turn."""
    header, *lines = path.read_text().splitlines()
    rows = [f"{line},{texts[place % len(texts)]}" for place, line in enumerate(lines)]
    path.write_text("\n".join([f"{header},{column}", *rows]))
    return path


def test_losses_of_different_held_out_text_are_refused_before_any_fit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = with_text(written(tmp_path / "a.csv", SLOW), "held_out", ["0123456789"])
    second = with_text(written(tmp_path / "b.csv", FAST), "held_out", ["abcdefghij"])
    with pytest.raises(ConfigError) as raised:
        show_law_comparison(question(first, second), as_json=False)
    assert raised.value.problems == [
        f"the losses are of different held-out text ({first}: 01234567; {second}: abcdefgh), so "
        "they cannot be compared. Train all procedures on data with the same held-out documents, "
        "data.sequence_length and data.validation_sequences. Where only their tokenizers differ, "
        "compare with --unit bits-per-byte"
    ]
    assert capsys.readouterr().out == ""


def test_a_table_of_two_held_out_texts_is_refused(tmp_path: Path) -> None:
    first = with_text(written(tmp_path / "a.csv", SLOW), "held_out", ["one", "two"])
    second = written(tmp_path / "b.csv", FAST)
    with pytest.raises(ConfigError, match=r"a\.csv: one, two; .*b\.csv: unknown\)"):
        show_law_comparison(question(first, second), as_json=False)


def test_bits_per_byte_need_the_same_documents_and_not_the_same_tokens(tmp_path: Path) -> None:
    """The columns of a study: other tokens of the same documents, then other documents."""
    tables = [tmp_path / f"{name}.csv" for name in "abc"]
    for table, text in zip(tables, ("text", "text", "other"), strict=True):
        written(table, SLOW)
        table.write_text(table.read_text().replace("loss", "bits_per_byte"))
        with_text(with_text(table, "held_out", [table.name]), "held_out_text", [text])
    asked = replace(question(*tables[:2]), unit="bits-per-byte")
    show_law_comparison(asked, as_json=True)
    with pytest.raises(ConfigError) as raised:
        show_law_comparison(replace(asked, tables=tables), as_json=True)
    (problem,) = raised.value.problems
    assert f"{tables[1]}: text; {tables[2]}: other" in problem
    assert problem.endswith("data.sequence_length and data.validation_sequences")


def test_tables_of_the_same_held_out_text_or_of_unknown_text_are_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = with_text(written(tmp_path / "a.csv", SLOW), "held_out", ["one"])
    second = with_text(written(tmp_path / "b.csv", FAST), "held_out", ["one"])
    unknown = written(tmp_path / "c.csv", FAST)
    show_law_comparison(question(first, second, unknown), as_json=True)
    compared = json.loads(capsys.readouterr().out)["comparisons"]
    assert [(pair["first"], pair["second"]) for pair in compared] == [
        (str(first), str(second)),
        (str(first), str(unknown)),
        (str(second), str(unknown)),
    ]


def test_sizes_and_budgets_of_one_table_alone_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The best size at C = 1e22 is sqrt(C / 6) = 4.08e10. It is halved and doubled twice."""
    first = written(tmp_path / "a.csv", SLOW)
    second = written(tmp_path / "b.csv", SLOW, budgets=(1e19, 1e20, 1e21, 1e22))
    show_law_comparison(question(first, second), as_json=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "one grid" in line]
    expected = (
        f"{first} and {second} do not have one grid: only {second} has N = 1.02e10, 2.04e10, 4.08e10, "
        f"8.16e10 and 1 more; only {second} has C = 1.00e22"
    )
    assert line == expected
    show_law_comparison(question(first, second), as_json=True)
    assert json.loads(capsys.readouterr().out)["remarks"] == [expected]


def test_one_grid_needs_no_remark(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Budgets and sizes within 5 % count as one: here they are 2 % and 1 % apart."""
    first = written(tmp_path / "a.csv", SLOW)
    second = written(tmp_path / "b.csv", FAST, budgets=[1.02 * flops for flops in BUDGETS])
    show_law_comparison(question(first, second), as_json=True)
    assert json.loads(capsys.readouterr().out)["remarks"] == []


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
