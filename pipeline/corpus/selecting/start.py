"""What `select` refuses before it judges any document. Reads the columns of one file of annotations."""

from collections.abc import Sequence

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.annotation_file import open_annotations
from pipeline.corpus.selecting.judge import PUBLISHED
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.corpus.selecting.rule_values import compared_columns
from pipeline.errors import ConfigError
from pipeline.store.curation.annotation_folder import annotation_folder


def refuse_absent_lists(config: RunConfig, shards: Sequence[JudgedShard]) -> None:
    """Raise ConfigError where `select` reads published lists of duplicates and no source has any.

    What else it reads follows from the run file, and is checked when that is loaded.
    """
    section = config.select
    if section is None or not shards:
        return
    readers: list[str] = []
    if "published" in section.exact_duplicates:
        readers.append("select.exact_duplicates = published")
    if PUBLISHED in compared_columns(section.rules):
        readers.append("select.rules")
    if not readers:
        return
    path = annotation_folder(config).file(shards[0].name)
    with open_annotations(path, shards[0].documents) as file:
        if PUBLISHED not in file.schema_arrow.names:
            raise ConfigError(
                [
                    f"{', '.join(readers)}: the annotations have no column {PUBLISHED}, for no source "
                    "is a tree with lists of duplicates (sources.NAME.layout: redpajama-v2); leave "
                    "this out"
                ]
            )
