"""What `select` refuses before it judges any document. Reads the columns of one file of annotations."""

from collections.abc import Sequence

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.annotation_file import open_annotations
from pipeline.corpus.selecting.judge import PII, PUBLISHED, TEXT_HASH
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.corpus.selecting.rule_values import holds_scores, refuse_wrong_columns
from pipeline.errors import ConfigError
from pipeline.store.curation.annotation_folder import annotation_folder


def check_settings(config: RunConfig) -> None:
    """Raise ConfigError where the section needs annotations that the run file does not ask for."""
    # Without annotations only ids and urls can be compared.
    section = config.select
    if section is None or not section.reads_annotations:
        return
    annotate = config.annotate
    if annotate is None:
        raise ConfigError(
            [
                "select: reads annotations, and the run file has no section `annotate`; add it, for "
                "example `annotate: {signals: [redpajama-v2, gopher, c4, fineweb]}`"
            ]
        )

    # What each part reads of them.
    needed = {
        f"select.pii = {section.pii}": ("annotate.pii", section.pii == "keep" or annotate.pii),
        "select.near_duplicates": (
            "annotate.minhash",
            section.near_duplicates is None or annotate.minhash is not None,
        ),
        "select.paragraph_duplicates": (
            "annotate.paragraphs",
            section.paragraph_duplicates is None or annotate.paragraphs,
        ),
    }
    problems = [
        f"{setting}: needs {other}, which is off; set it, or leave this out"
        for setting, (other, is_there) in needed.items()
        if not is_there
    ]
    if problems:
        raise ConfigError(problems)


def check_columns(config: RunConfig, shards: Sequence[JudgedShard]) -> None:
    """Raise ConfigError naming everything in `select` that the annotations have no column for."""
    section = config.select
    if section is None or not section.reads_annotations or not shards:
        return
    path = annotation_folder(config).file(shards[0].name)
    with open_annotations(path, shards[0].documents) as file:
        schema = file.schema_arrow

    # Columns that have to be there.
    needed = {
        f"select.pii = {section.pii}": (section.pii != "keep", PII),
        "select.exact_duplicates = text_hash": ("text_hash" in section.exact_duplicates, TEXT_HASH),
        "select.exact_duplicates = published": ("published" in section.exact_duplicates, PUBLISHED),
    }
    for number, cut in enumerate(section.cut_spans):
        needed[f"select.cut_spans.{number}"] = (True, cut.column)
    problems = [
        f"{setting}: the annotations have no column {column}, which `pipeline annotate` makes where "
        "the section `annotate` asks for it"
        for setting, (is_asked, column) in needed.items()
        if is_asked and column not in schema.names
    ]

    # Columns of the right kind.
    problems += [
        f"select.cut_spans.{number}: the column {cut.column} holds no spans with scores"
        for number, cut in enumerate(section.cut_spans)
        if cut.column in schema.names and not holds_scores(schema.field(cut.column).type)
    ]
    try:
        refuse_wrong_columns(section.rules, schema)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
