"""What `select` refuses before it judges any document. Reads the columns of one file of annotations."""

from collections.abc import Sequence

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.annotation_file import open_annotations
from pipeline.corpus.selecting.duplicates import TEXT_HASH
from pipeline.corpus.selecting.judge import PII, PUBLISHED
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.corpus.selecting.rule_values import refuse_wrong_columns
from pipeline.errors import ConfigError
from pipeline.store.curation.annotation_folder import annotation_folder


def check_columns(config: RunConfig, shards: Sequence[JudgedShard]) -> None:
    """Raise ConfigError naming everything in `select` that the annotations have no column for."""
    section = config.select
    if section is None or not section.reads_annotations or not shards:
        return
    path = annotation_folder(config).file(shards[0].name)
    with open_annotations(path, shards[0].documents) as file:
        schema = file.schema_arrow
    needed = {
        f"select.pii = {section.pii}": (section.pii != "keep", PII),
        "select.exact_duplicates = text_hash": ("text_hash" in section.exact_duplicates, TEXT_HASH),
        "select.exact_duplicates = published": ("published" in section.exact_duplicates, PUBLISHED),
    }
    problems = [
        f"{setting}: the annotations have no column {column}, which `pipeline annotate` makes where "
        "the section `annotate` asks for it"
        for setting, (is_asked, column) in needed.items()
        if is_asked and column not in schema.names
    ]
    try:
        refuse_wrong_columns(section.rules, schema)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
