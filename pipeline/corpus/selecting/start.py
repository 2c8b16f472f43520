"""What `select` refuses before it judges any document. Reads the columns of one file of annotations."""

from collections.abc import Sequence

from pipeline.config.curation.annotated_columns import PUBLISHED_DUPLICATE
from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.annotation_file import open_annotations
from pipeline.corpus.annotating.published_duplicate import lists_are_absent, readers_of_lists
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.store.curation.annotation_folder import annotation_folder


def refuse_unannotated_lists(config: RunConfig, shards: Sequence[JudgedShard]) -> None:
    """Raise ConfigError where `select` reads published lists of duplicates and no source has any.

    What else it reads follows from the run file, and is checked when that is loaded.
    """
    readers = readers_of_lists(config)
    if not readers or not shards:
        return
    path = annotation_folder(config).file(shards[0].name)
    with open_annotations(path, shards[0].documents) as file:
        if PUBLISHED_DUPLICATE not in file.schema_arrow.names:
            raise lists_are_absent(readers)
