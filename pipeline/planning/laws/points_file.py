"""Reads a table of trained models: anybody's CSV, or the `points.csv` of a study.

README.md of this folder lists the columns. Every mistake of a table is reported at once.
"""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import ConfigError, DataError
from pipeline.planning.laws.loss_law import FLOPS_PER_PARAMETER_AND_TOKEN, Unit
from pipeline.planning.laws.points import COUNTS, LawPoint, PointTable

COMMENT = "#"
"""First character of a line that is not read."""
LOSS_COLUMNS: dict[Unit, str] = {
    "nats": "loss",
    "bits": "loss",
    "bits-per-byte": "bits_per_byte",
}
"""Unit -> the column that holds the loss."""
HELD_OUT_COLUMNS: dict[Unit, str] = {
    "nats": "held_out",
    "bits": "held_out",
    "bits-per-byte": "held_out_text",
}
"""Unit -> the column of what identifies the held-out text. Losses a token need the same tokens."""
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_points(path: Path, unit: Unit) -> PointTable:
    """Return the points of a table.

    `unit`: what its losses count. With `bits-per-byte`, the column `bits_per_byte` is the loss.
    Raises DataError where the file cannot be read, and ConfigError for what is wrong in it.
    """
    lines = _numbered_lines(path)
    if not lines:
        raise DataError(f"{path}: is empty. The first line must name the columns: {_needed(unit)}")
    header = [name.strip() for name in lines[0][1]]
    problems = _header_problems(header, unit)
    if problems:
        raise ConfigError(problems, str(path))
    points: list[LawPoint] = []
    for number, fields in lines[1:]:
        if len(fields) != len(header):
            problems.append(
                f"line {number}: {len(fields)} fields, but {len(header)} columns are named. Write "
                "numbers without a comma in them, and put a text with a comma in quotes"
            )
            continue
        row = _Row(number, dict(zip(header, (field.strip() for field in fields), strict=True)))
        points.append(row.point(unit))
        problems += row.problems
    if not points and not problems:
        problems.append("no line after the names of columns: write one line a trained model")
    if problems:
        raise ConfigError(problems, str(path))
    return PointTable(path.name, unit, tuple(points))


def _numbered_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line, its fields), without blank lines and comments."""
    try:
        # Spreadsheets write a byte order mark, which is no part of the first column's name.
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Name a CSV file of trained models."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason}). Save it as UTF-8.") from None
    numbered: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in reader:
            is_blank = not any(field.strip() for field in fields)
            if not is_blank and not fields[0].lstrip().startswith(COMMENT):
                numbered.append((reader.line_num, fields))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: is not CSV ({error}).") from None
    return numbered


def _needed(unit: Unit) -> str:
    """Return which columns a table needs, in words."""
    return f"parameters, tokens or flops, {LOSS_COLUMNS[unit]}"


def _header_problems(header: list[str], unit: Unit) -> list[str]:
    """Return what is wrong with the names of the columns."""
    for separator, plural in OTHER_SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            return [f"fields are separated by {plural}, not by commas: save the table with commas"]
    problems: list[str] = []
    twice = sorted({name for name in header if name and header.count(name) > 1})
    problems += [f"column {name} is there twice: rename or delete one" for name in twice]
    if not any(count in header for count in COUNTS):
        problems.append(f"no column for N: name one of {', '.join(COUNTS)}")
    if "tokens" not in header and "flops" not in header:
        problems.append("no column for D: name one of tokens, flops")
    if LOSS_COLUMNS[unit] not in header:
        problems.append(f"no column {LOSS_COLUMNS[unit]}, which --unit {unit} reads")
    if problems:
        problems.append(f"the columns are {', '.join(header)}; needed are {_needed(unit)}")
    return problems


class _Row:
    """One line of a table; collects what is wrong with it."""

    def __init__(self, line: int, texts: Mapping[str, str]) -> None:
        self.line = line
        self.texts = texts
        self.problems: list[str] = []
        self.left_out = texts.get("left_out", "")

    def point(self, unit: Unit) -> LawPoint:
        """Return the line's point. What is wrong with it is then in `problems`."""
        columns = [count for count in COUNTS if count in self.texts]
        counts = {count: self._positive(count) for count in columns}
        loss = self._loss(LOSS_COLUMNS[unit])
        tokens = self._tokens(counts[columns[0]])
        # Without a column of FLOPs, N is the first way of counting it.
        flops = FLOPS_PER_PARAMETER_AND_TOKEN * counts[columns[0]] * tokens
        if "flops" in self.texts:
            flops = self._positive("flops")
        return LawPoint(
            name=self.texts.get("name") or f"line {self.line}",
            counts=counts,
            tokens=tokens,
            flops=flops,
            loss=loss,
            seed=self.texts.get("seed", ""),
            steps=self._optional("steps"),
            epochs=self._optional("epochs"),
            tokenizer=self.texts.get("tokenizer", ""),
            held_out=self.texts.get(HELD_OUT_COLUMNS[unit], ""),
            left_out=self.left_out,
        )

    def _tokens(self, parameters: float) -> float:
        """Return D; from C = 6 N D where the table has no tokens."""
        if "tokens" in self.texts:
            return self._positive("tokens")
        return self._positive("flops") / (FLOPS_PER_PARAMETER_AND_TOKEN * parameters)

    def _loss(self, column: str) -> float:
        """Return the loss; NaN for a run that diverged, which no fit uses."""
        if self.texts[column].lower() == "nan":
            return math.nan
        return self._positive(column)

    def _optional(self, column: str) -> float | None:
        """Return a number that a table need not have."""
        if not self.texts.get(column):
            return None
        return self._positive(column)

    def _positive(self, column: str) -> float:
        """Return a number that must be there and above 0; NaN where it is not."""
        text = self.texts[column]
        if not text and self.left_out:
            return math.nan
        if not text:
            self._report(
                column, "is missing: write a number, or in left_out why the run does not count"
            )
            return math.nan
        try:
            number = float(text)
        except ValueError:
            self._report(column, f"is {text!r}, which is no number: write it as 7e9 or 7000000000")
            return math.nan
        is_valid = number > 0 and math.isfinite(number)
        if not is_valid and not self.left_out:
            self._report(column, f"is {text}, and must be a finite number above 0: correct it")
            return math.nan
        return number

    def _report(self, column: str, what: str) -> None:
        problem = f"line {self.line}: {column} {what}"
        if problem not in self.problems:
            self.problems.append(problem)
