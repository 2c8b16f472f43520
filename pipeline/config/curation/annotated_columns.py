"""Columns that `annotate` makes, and what `select` asks of them.

Both sections are known when a run file is loaded. So a rule over a column that nobody computes is
refused at once, not after hours of annotating. Reads no file.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal, TypeAlias

from pipeline.config.curation.annotate_section import NONE, Annotate
from pipeline.config.curation.rules import RuleComparison, parse_comparison
from pipeline.config.curation.select_section import Select
from pipeline.config.curation.signal_names import LINE_SIGNALS, SIGNAL_SETS
from pipeline.config.run_config import RunConfig
from pipeline.errors import first_of

ColumnKind: TypeAlias = Literal["number", "flag", "word", "scores", "list", "bytes"]
"""What a document has in a column: one value (a `flag` is 0 or 1), or a list: `scores` of spans, or
without scores."""

PUBLISHED_DUPLICATE = "published_duplicate"
"""Column that says which documents a published list names as copies of others."""
ALWAYS: Mapping[str, ColumnKind] = {
    "id": "word",
    "text_hash": "bytes",
    PUBLISHED_DUPLICATE: "flag",
}
"""Columns that no setting of `annotate` turns off. The last one stands in files only where a tree has
lists of duplicates."""
BY_SETTING: Mapping[str, Mapping[str, ColumnKind]] = {
    "language": {"language": "word", "language_score": "number"},
    "pii": {"pii": "list"},
    "minhash": {"minhash_bands": "list"},
    "paragraphs": {"paragraph_hashes": "list"},
}
"""Setting of `annotate` -> the columns that it turns on."""
DEFAULTS: Mapping[str, str] = {
    "language": "true",
    "pii": "true",
    "minhash": "{}",
    "paragraphs": "true",
}
"""Value that turns each of them on."""
MOST_COLUMNS = 60
"""Maximum number of columns in one message."""


def annotated_columns(section: Annotate) -> dict[str, ColumnKind]:
    """Return the columns that a section makes, with what a document has in each."""
    columns: dict[str, ColumnKind] = {}
    for name in section.signal_columns:
        columns[name] = "scores" if name in LINE_SIGNALS else "number"
    for setting, made in BY_SETTING.items():
        if getattr(section, setting):
            columns |= made
    return {**columns, **ALWAYS, **dict.fromkeys(section.attributes, "scores")}


def annotation_problems(config: RunConfig) -> list[str]:
    """Return a message for each thing that `select` reads and `annotate` does not make."""
    select = config.select
    if select is None or not select.reads_annotations:
        return []
    reads = _columns_read(select)
    if config.annotate is None:
        readers = dict.fromkeys(reader.split(" = ")[0] for reader, _ in reads)
        verb = "reads" if len(readers) == 1 else "read"
        sets = _sets_with([column for _, column in reads])
        signals = f"[{', '.join(sets)}]" if sets else NONE
        return [
            f"annotate: is not set, and {', '.join(readers)} {verb} annotations; add the section, for "
            f"example `annotate: {{signals: {signals}}}`"
        ]
    columns = annotated_columns(config.annotate)
    if select.decontaminate is not None:
        columns["contamination"] = "list"
    missing = [(reader, column) for reader, column in reads if column not in columns]
    return [
        *_parts_that_are_off(missing),
        *_signals_not_computed(config.annotate, missing),
        *_unknown_columns(missing, columns),
        *_wrong_kinds(select, columns),
    ]


def _columns_read(select: Select) -> list[tuple[str, str]]:
    """Return each setting of `select` that reads a column of the annotations, with the column."""
    reads = [
        ("select.rules", parse_comparison(written).column) for written in select.rules.values()
    ]
    reads += [
        (f"select.cut_spans.{number}", cut.column) for number, cut in enumerate(select.cut_spans)
    ]
    if select.pii != "keep":
        reads.append((f"select.pii = {select.pii}", "pii"))
    if select.near_duplicates is not None:
        reads.append(("select.near_duplicates", "minhash_bands"))
    if select.paragraph_duplicates is not None:
        reads.append(("select.paragraph_duplicates", "paragraph_hashes"))
    if select.decontaminate is not None:
        reads.append(("select.decontaminate", "contamination"))
    columns = {"text_hash": "text_hash", "published": PUBLISHED_DUPLICATE}
    reads += [
        (f"select.exact_duplicates = {key}", columns[key])
        for key in select.exact_duplicates
        if key in columns
    ]
    return list(dict.fromkeys(reads))


def _sets_with(columns: Sequence[str]) -> list[str]:
    """Return the sets of signals that some of the columns are of."""
    return [name for name, signals in SIGNAL_SETS.items() if {*signals} & {*columns}]


def _parts_that_are_off(missing: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield a message for each setting of `annotate` that has to be turned on."""
    for setting, made in BY_SETTING.items():
        readers = dict.fromkeys(reader for reader, column in missing if column in made)
        if readers:
            yield (
                f"{', '.join(readers)}: needs annotate.{setting}, which is off; set "
                f"annotate.{setting}: {DEFAULTS[setting]}, or leave this out"
            )


def _signals_not_computed(section: Annotate, missing: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield a message for each setting that reads signals which exist and are not asked for."""
    known = set[str]().union(*SIGNAL_SETS.values())
    for reader in dict.fromkeys(reader for reader, _ in missing):
        absent = [column for other, column in missing if other == reader and column in known]
        if absent:
            asked = [*section.signals, *_sets_with(absent)]
            yield (
                f"{reader}: reads {first_of(absent, MOST_COLUMNS)}, which annotate.signals does not "
                f"compute; set annotate.signals: [{', '.join(dict.fromkeys(asked))}]"
            )


def _unknown_columns(
    missing: Sequence[tuple[str, str]], columns: Mapping[str, ColumnKind]
) -> Iterator[str]:
    """Yield a message for each column that nothing makes, then one with the columns that exist."""
    known = {*columns}.union(*SIGNAL_SETS.values(), *BY_SETTING.values())
    unknown = [(reader, column) for reader, column in missing if column not in known]
    for reader, column in unknown:
        close = get_close_matches(column, sorted(known), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        yield f"{reader}: the annotations have no column {column}{hint}"
    if unknown:
        yield (
            f"annotate: makes the columns {first_of([*columns], MOST_COLUMNS)}; annotate.signals "
            "adds signals, annotate.attributes those of a Dolma tree"
        )


def _wrong_kinds(select: Select, columns: Mapping[str, ColumnKind]) -> Iterator[str]:
    """Yield a message for each rule and cut that does not fit what its column holds."""
    for name, written in select.rules.items():
        comparison = parse_comparison(written)
        is_named = name != written.replace(" ", "")
        where = f"select.rules.{name}" if is_named else f"select.rules, {written}"
        if comparison.column in columns:
            problem = _misfit(comparison, columns[comparison.column])
            if problem is not None:
                yield f"{where}: {problem}"
    for number, cut in enumerate(select.cut_spans):
        if columns.get(cut.column, "scores") != "scores":
            yield f"select.cut_spans.{number}: the column {cut.column} holds no spans with scores"


def _misfit(comparison: RuleComparison, kind: ColumnKind) -> str | None:
    """Return why a comparison does not fit what its column holds; None where it does."""
    column = comparison.column
    if kind == "list" and comparison.summary is None:
        return f"{column} has a list for each document; write count({column})"
    if kind == "list" and comparison.summary != "count":
        return f"{column} has no values to take the {comparison.summary} of; write count({column})"
    if kind == "scores" and comparison.summary is None:
        return f"{column} has a value for each line; write mean({column}), sum or count"
    if kind in ("scores", "list"):
        return None
    if comparison.summary is not None:
        return f"{column} has one value for each document; leave out {comparison.summary}"
    if kind == "flag" and comparison.value not in (0, 1):
        return f"{column} is 1 or 0, true or false for a document; write {column} == 0"
    if kind == "bytes":
        return f"{column} holds neither numbers nor words"
    if (kind == "word") != isinstance(comparison.value, str):
        return f"{column} holds {kind}s, which {comparison.value} is not"
    return None
