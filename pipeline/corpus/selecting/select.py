"""The stage `select`: decide which documents the later stages read, and which parts of them.

Reads `data_dir/documents` and `data_dir/annotations`; writes `data_dir/selection`: a verdict on each
document, samples of what was removed, and a hash for each shard of what readers take of it. The work
is done in rounds (`rounds.py`).
"""

import shutil
from collections.abc import Mapping

import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.corpus.decontaminating.searched_tasks import short_question_lines
from pipeline.corpus.documents import SHARD_SUFFIX
from pipeline.corpus.near_duplicates.kept_comparison import trim_comparison
from pipeline.corpus.parquet_tables import write_parquet
from pipeline.corpus.selecting.comparison_evidence import comparison_lines, write_contamination
from pipeline.corpus.selecting.judged_shards import judged_shards, shard_groups
from pipeline.corpus.selecting.kept_documents import DIGESTS
from pipeline.corpus.selecting.removals import (
    added_counts,
    closing_lines,
    headline,
    refuse_wrong_counts,
)
from pipeline.corpus.selecting.removed_samples import write_samples
from pipeline.corpus.selecting.rounds import Rounds
from pipeline.corpus.selecting.shard_list import write_shard_list
from pipeline.corpus.selecting.start import refuse_unannotated_lists
from pipeline.corpus.selecting.token_estimates import earlier_bytes_per_token
from pipeline.store.artifacts import Result
from pipeline.store.curation.selection_folder import SelectionFolder, selection_folder
from pipeline.store.curation.verdict_counts import SelectCounts
from pipeline.store.files import remove_unlisted
from pipeline.store.manifests.replaced_output import replace_output
from pipeline.store.manifests.shard_places import logical_name
from pipeline.store.records import FileRecord, ListedFile
from pipeline.work.workers import workers


def select(config: RunConfig) -> Result[SelectCounts]:
    """Write a verdict on every document.

    Raises ConfigError where published lists of duplicates are read and there are none; DataError for
    files that are damaged or do not belong together, and after all verdicts, with the numbers, where
    a reason removes more of a source than `select.max_removed` allows, or everything. Verdicts that
    were there are replaced after all that.
    """
    folder = selection_folder(config)
    assert config.select is not None, "the stage is asked for"
    shards = judged_shards(config, config.select.reads_annotations)
    refuse_unannotated_lists(config, shards)
    groups = shard_groups(shards)
    shard_list = write_shard_list(groups, folder.round("shards") / f"list{SHARD_SUFFIX}")

    # The same workers take all rounds.
    with workers(config.executor) as crew:
        rounds = Rounds(config, folder, groups, shard_list, crew)
        concluded = rounds.run()

    # Samples come before a refusal, which asks people to look at them; earlier verdicts remain.
    beside = folder.beside
    counts = added_counts(config, groups, concluded)
    counts["clamped_spans"] = sum(result["clamped"] for result in rounds.drafts.values())
    candidates = [rounds.candidates(group) for group in groups]
    samples = write_samples(config, beside, candidates, shards)
    refuse_wrong_counts(config, beside, counts)

    # All files that are listed, then what readers look at first.
    files: dict[str, ListedFile] = {**samples}
    files |= write_contamination(beside, rounds.contaminated, shards)
    for result in concluded.values():
        files |= {name: result["files"][name] for name in result["digests"]}
    digests = {
        logical_name(name): digest
        for result in concluded.values()
        for name, digest in result["digests"].items()
    }
    files |= _write_digests(beside, digests)
    counts["headline"] = headline(counts)
    closing = closing_lines(counts, earlier_bytes_per_token(config))
    closing += comparison_lines(rounds.near, rounds.paragraphs, rounds.contaminated)
    closing += short_question_lines(config)

    # They take their places once nothing can stop the stage; intermediate files go.
    replace_output(beside.path, folder.path, list(files))
    shutil.rmtree(folder.unfinished, ignore_errors=True)
    if rounds.near is None:
        shutil.rmtree(folder.comparison, ignore_errors=True)
    else:
        trim_comparison(folder.comparison, rounds.near.steps)
    patterns = [f"*/*{SHARD_SUFFIX}", f"*/*/*{SHARD_SUFFIX}", "*/*.jsonl", "*/.*.partial"]
    remove_unlisted(folder.path, list(files), patterns)
    return Result(counts, files, closing=closing)


def _write_digests(folder: SelectionFolder, digests: Mapping[str, str]) -> dict[str, FileRecord]:
    """Write the hash of what readers take of each shard; return the record of the file."""
    names = sorted(digests)
    columns = {"shard": names, "digest": [digests[name] for name in names]}
    record = write_parquet(pa.table(columns, schema=DIGESTS), folder.digests)
    return {folder.digests.name: record}
