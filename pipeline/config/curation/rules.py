"""Rules of `select`: comparisons that a document has to pass, and the presets that name many of them.

A rule is one comparison: `COLUMN OPERATOR VALUE`, or `mean(COLUMN) OPERATOR VALUE` where the column
holds a value for each line. Reads `presets/rules/*.yaml`. What evaluates rules stands in
`corpus/selecting/rule_values.py`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from pipeline.config.shipped_files import RULES, shipped_file, shipped_files
from pipeline.config.values import InWords, Section
from pipeline.config.yaml_files import YamlValue, read_yaml

Operator: TypeAlias = Literal["<", "<=", "==", "!=", ">=", ">"]
Summary: TypeAlias = Literal["mean", "sum", "count"]

OPERATORS = ("<=", ">=", "==", "!=", "<", ">")
"""Longest first: `<` also begins `<=`."""
SUMMARIES = ("mean", "sum", "count")
_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_COMPARISON = re.compile(
    rf"(?:(?P<summary>[a-z]+)\(\s*(?P<inner>\w+)\s*\)|(?P<column>\w+))"
    rf"\s*(?P<operator>{'|'.join(OPERATORS)})\s*"
    rf"(?:(?P<number>{_NUMBER})|(?P<quote>[\"']?)(?P<word>[A-Za-z][\w-]*)(?P=quote))"
)
NAME = re.compile(r"[A-Za-z0-9][\w/<>=!(). +-]*", re.ASCII)
"""A name of a rule: it is a part of file names, whose other characters become dashes."""
MOST_RULES = 200
C4_DEDUP = "c4-dedup"
NO_RULE_OF_C4 = (
    "is no rule over single documents: C4 cut every three sentences in a row that stood before. Leave it "
    "out, and write `annotate: {paragraph_unit: three-sentences}` and "
    "`select: {paragraph_duplicates: {fewest_characters: 1}}`"
)
"""What to write for the deduplication of C4. Source: Raffel et al. 2020, section 2.2, which names no least
length."""


@dataclass(frozen=True)
class RuleComparison:
    """What a rule asks of a column of the annotations."""

    column: str
    summary: Summary | None
    """How the values of a document's lines become one value; None where it has one value."""
    operator: Operator
    value: float | str

    @property
    def left(self) -> str:
        """The side that is computed, as a rule writes it."""
        if self.summary is None:
            return self.column
        return f"{self.summary}({self.column})"

    @property
    def text(self) -> str:
        """The comparison in its one spelling."""
        value = self.value
        if isinstance(value, float):
            shortest = f"{value:.15g}"
            value = shortest if float(shortest) == value else repr(value)
        return f"{self.left} {self.operator} {value}"


def parse_comparison(written: str) -> RuleComparison:
    """Return the comparison that a rule writes. Raises ValueError with the form that is expected."""
    match = _COMPARISON.fullmatch(written.strip())
    if match is None:
        raise ValueError(
            "is no comparison; write COLUMN, one of < <= == != >= >, and a number or a word, as in "
            '"rps_doc_word_count >= 50" or "mean(rps_lines_start_with_bulletpoint) <= 0.9"'
        )
    summary = match["summary"]
    if summary is not None and summary not in SUMMARIES:
        raise ValueError(f"has {summary}(...); there are {', '.join(SUMMARIES)}")
    value: float | str = match["word"] or ""
    if match["number"] is not None:
        value = float(match["number"].replace("_", ""))
        if not math.isfinite(value):
            raise ValueError(f"has {match['number']}, which is larger than any value")
    operator = cast("Operator", match["operator"])
    if isinstance(value, str) and operator not in ("==", "!="):
        raise ValueError(f"compares the word {value} by {operator}; words take == and != alone")
    return RuleComparison(match["inner"] or match["column"], summary, operator, value)


class _RulesFile(Section):
    description: str
    """One line: what the rules are."""
    source: str
    """Publication that the thresholds are from."""
    rules: dict[str, str] = Field(min_length=1)
    """Name of a rule -> comparison."""


def preset_rules(name: str) -> dict[str, str]:
    """Return the rules of a shipped preset, `preset/rule` -> comparison.

    Raises ValueError for an unknown name, and where the file is wrong.
    """
    path = shipped_file(name, RULES, "preset of rules")
    try:
        content = _RulesFile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ValueError(f"{path}: {error}") from None
    return {
        f"{name}/{rule}": parse_comparison(comparison).text
        for rule, comparison in content.rules.items()
    }


def expand_rules(written: YamlValue) -> dict[str, str]:
    """Return the rules of `select.rules` by their names, in their order.

    A list holds names of presets and comparisons, which are named by their text; a mapping gives a
    comparison a name of its own. Raises ValueError naming everything that is neither.
    """
    if isinstance(written, str):
        written = [written]
    if isinstance(written, Mapping):
        entries = [(str(name), text) for name, text in written.items()]
    elif isinstance(written, list | tuple):
        entries = [(None, text) for text in written]
    else:
        raise ValueError("is neither a list of presets and comparisons nor a mapping from names")
    rules: dict[str, str] = {}
    problems: list[str] = []
    for name, text in entries:
        try:
            rules |= _rules_of_entry(name, text)
        except ValueError as error:
            problems.append(f"{text!r} {error}")
    if len(rules) > MOST_RULES:
        problems.append(f"has {len(rules)} rules; {MOST_RULES} are allowed")
    if problems:
        raise ValueError("; ".join(problems))
    return rules


def _rules_of_entry(name: str | None, text: YamlValue) -> dict[str, str]:
    if not isinstance(text, str):
        raise ValueError("is no text; put quotes around a comparison")
    if text == C4_DEDUP:
        raise ValueError(NO_RULE_OF_C4)
    if name is None and re.fullmatch(r"[A-Za-z0-9-]+", text):
        if text not in shipped_files(RULES):
            raise ValueError(
                f"is neither a comparison nor a preset; there are {', '.join(shipped_files(RULES))}"
            )
        return preset_rules(text)
    comparison = parse_comparison(text).text
    if name is None:
        name = comparison.replace(" ", "")
    if not NAME.fullmatch(name):
        raise ValueError(f"has the name {name!r}; a name has letters, digits, dashes and slashes")
    return {name: comparison}


def _expand(written: YamlValue) -> dict[str, str]:
    try:
        return expand_rules(written)
    except ValueError as error:
        raise PydanticCustomError("rules", "{why}", {"why": str(error)}) from None


Rules = Annotated[
    dict[str, str],
    BeforeValidator(_expand),
    InWords("list of presets and comparisons, or mapping from names to comparisons"),
]
"""Rules by their names; presets are replaced by their rules on loading."""
