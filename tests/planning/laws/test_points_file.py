"""Tables of points as people write them, and what is said of their mistakes."""

import math
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.planning.laws.points import PointTable
from pipeline.planning.laws.points_file import read_points


def written(folder: Path, text: str) -> Path:
    path = folder / "points.csv"
    path.write_text(text, "utf-8")
    return path


def problems_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read_points(written(folder, text), "nats")
    return raised.value.problems


def read(folder: Path, text: str) -> PointTable:
    return read_points(written(folder, text), "nats")


def test_tokens_follow_from_flops(tmp_path: Path) -> None:
    (point,) = read(tmp_path, "parameters,flops,loss\n1e6,1.2e14,3.5\n").points
    assert point.tokens == 2e7
    assert point.flops == 1.2e14
    assert point.loss == 3.5
    assert point.name == "line 2"


def test_flops_follow_from_tokens(tmp_path: Path) -> None:
    (point,) = read(tmp_path, "loss,tokens,parameters\n3.5,2e7,1000000\n").points
    assert point.flops == 1.2e14


def test_byte_order_mark_blank_lines_and_comments_are_skipped(tmp_path: Path) -> None:
    text = "\ufeff# from a paper, table 3\nparameters, tokens, loss\n\n 1e6 ,2e7,3.5\n,,\n#1,2,3\n1e6,4e7,3.0"
    table = read(tmp_path, text)
    assert [point.name for point in table.points] == ["line 4", "line 7"]
    assert [point.loss for point in table.points] == [3.5, 3.0]


def test_a_table_of_a_study(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "name,seed,parameters_total,parameters_non_embedding,parameters_multiplying,tokens,flops,loss,"
        "bits_per_byte,steps,epochs,batch_tokens,peak_learning_rate,tokenizer,run,left_out\n"
        "w16,1,3e6,1e6,2e6,2e7,3e14,3.5,1.2,500,0.5,2048,0.01,bpe-4k,runs/a,\n"
        "w32,1,3e6,1e6,2e6,2e7,3e14,,,0,,2048,0.01,bpe-4k,runs/b,stopped at step 0\n",
    )
    good, stopped = table.points
    assert table.counts == [
        "parameters_total",
        "parameters_non_embedding",
        "parameters_multiplying",
    ]
    assert good.counts["parameters_non_embedding"] == 1e6
    assert good.flops == 3e14
    assert (good.name, good.seed, good.tokenizer) == ("w16", "1", "bpe-4k")
    assert (good.steps, good.epochs) == (500, 0.5)
    assert stopped.left_out == "stopped at step 0"
    assert math.isnan(stopped.loss)


def test_bits_per_byte_are_read_from_their_column(tmp_path: Path) -> None:
    path = written(tmp_path, "parameters,tokens,loss,bits_per_byte\n1e6,2e7,3.5,1.2\n")
    assert read_points(path, "bits-per-byte").points[0].loss == 1.2
    assert read_points(path, "bits").points[0].loss == 3.5


def test_a_run_that_diverged_is_no_mistake(tmp_path: Path) -> None:
    assert math.isnan(read(tmp_path, "parameters,tokens,loss\n1e6,2e7,NaN\n").points[0].loss)


def test_all_mistakes_of_lines_at_once(tmp_path: Path) -> None:
    text = (
        "parameters,tokens,loss,steps\n"
        "7B,2e7,3.5,\n"
        "nan,2e7,3.5,\n"
        "1e6,-2e7,3.5,\n"
        "1e6,2e7,,\n"
        "1e6,2e7,inf,\n"
        "1e6,2e7,0,many\n"
        "1,000,000,2e7,3.5,\n"
    )
    assert problems_of(tmp_path, text) == [
        "line 2: parameters is '7B', which is no number: write it as 7e9 or 7000000000",
        "line 3: parameters is nan, and must be a finite number above 0: correct it",
        "line 4: tokens is -2e7, and must be a finite number above 0: correct it",
        "line 5: loss is missing: write a number, or in left_out why the run does not count",
        "line 6: loss is inf, and must be a finite number above 0: correct it",
        "line 7: loss is 0, and must be a finite number above 0: correct it",
        "line 7: steps is 'many', which is no number: write it as 7e9 or 7000000000",
        "line 8: 6 fields, but 4 columns are named. Write numbers without a comma in them, and put a "
        "text with a comma in quotes",
    ]


def test_missing_columns_are_named_with_those_that_are_there(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "Model Size,Training Tokens\n1e6,2e7\n") == [
        "no column for N: name one of parameters, parameters_total, parameters_non_embedding, "
        "parameters_multiplying",
        "no column for D: name one of tokens, flops",
        "no column loss, which --unit nats reads",
        "the columns are Model Size, Training Tokens; needed are parameters, tokens or flops, loss",
    ]


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    (first, _) = problems_of(tmp_path, "parameters,tokens,loss,loss\n1e6,2e7,3,4\n")
    assert first == "column loss is there twice: rename or delete one"


@pytest.mark.parametrize(
    ("separator", "plural"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")]
)
def test_other_separators(tmp_path: Path, separator: str, plural: str) -> None:
    text = "parameters,tokens,loss\n1e6,2e7,3\n".replace(",", separator)
    assert problems_of(tmp_path, text) == [
        f"fields are separated by {plural}, not by commas: save the table with commas"
    ]


def test_a_table_without_lines(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "parameters,tokens,loss\n") == [
        "no line after the names of columns: write one line a trained model"
    ]


def test_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is empty\. The first line must name the columns"):
        read(tmp_path, "\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_points(tmp_path / "nowhere.csv", "nats")
    with pytest.raises(DataError, match="cannot be read"):
        read_points(tmp_path, "nats")
    (tmp_path / "points.csv").write_bytes(b"parameters,tokens,loss\n\xff\xfe\n")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_points(tmp_path / "points.csv", "nats")
    with pytest.raises(DataError, match="line 2: is not CSV"):
        read(tmp_path, 'parameters,tokens,loss\n"1e6,2e7,3\n')
