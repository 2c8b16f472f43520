"""What is compared of documents by others than rules: questions of tasks, near copies, paragraphs.

Gives the shards to `decontaminating` and `near_duplicates` in the order of priority, and writes for
them which documents are still there.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.corpus.documents import shard_footer
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard
from pipeline.corpus.near_duplicates.shard_inputs import CUT_OUT, KEEP
from pipeline.corpus.near_duplicates.verdict_files import read_near_duplicates
from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.corpus.selecting.duplicates import LoserFiles, WrittenRound
from pipeline.corpus.selecting.judge import DRAFT
from pipeline.corpus.selecting.judged_shards import FOOTER_THREADS, JudgedShard
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.files import fingerprint
from pipeline.store.manifests.moved_files import existing_place
from pipeline.store.manifests.shard_places import stem_of
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress


class KeptSoFar(NamedTuple):
    """Which documents nothing has removed so far."""

    folder: Path
    records: Mapping[str, FileRecord]
    """Path of a shard below the folder -> record of its file."""


def rows_of_shards(documents_dir: Path, shards: Sequence[JudgedShard]) -> dict[str, int]:
    """Return the number of documents of each shard, from the footers, by its path."""

    def rows(shard: JudgedShard) -> int:
        return shard_footer(documents_dir / shard.name).num_rows

    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        counts = list(pool.map(rows, shards))
    return {shard.name: count for shard, count in zip(shards, counts, strict=True)}


def compared_shards(
    folders: Mapping[str, Path],
    shards: Sequence[JudgedShard],
    rows: Mapping[str, int],
    kept: KeptSoFar | None = None,
) -> list[ComparedShard]:
    """Return the shards as those rooms take them. `kept`: None where all documents take part."""
    compared: list[ComparedShard] = []
    for shard in shards:
        keep = None
        content: list[str | None] = [shard.documents, shard.annotations]
        if kept is not None:
            keep = kept.folder / shard.name
            content.append(kept.records[shard.name]["checksum"])
        compared.append(
            ComparedShard(
                source=shard.source,
                stem=stem_of(shard.name),
                documents=folders["documents"] / shard.name,
                checksum=shard.documents,
                annotations=existing_place(folders["annotations"] / shard.name),
                keep=keep,
                group=shard.rank,
                rows=rows[shard.name],
                file_bytes=shard.size,
                fingerprint=fingerprint(content),
                always_stays=shard.always_stays,
            )
        )
    return compared


def compared_name(shard: JudgedShard) -> str:
    """Return the name by which those rooms know a shard."""
    return f"{shard.source}~{stem_of(shard.name)}"


def write_kept(
    drafts: Path,
    shards: Sequence[JudgedShard],
    group: int,
    losses: Sequence[LoserFiles],
    near: Mapping[str, Path],
    output: Path,
) -> WrittenRound:
    """Write for each shard of a group which documents nothing has removed so far, and their cuts.

    `near`: near-duplicates by the path of the shard; empty before they are found.
    """
    lost = [each.of_group(group) for each in losses]
    files: dict[str, FileRecord] = {}
    documents = 0
    for number, shard in enumerate(shards, 1):
        draft = read_parquet(drafts / shard.name, DRAFT, SELECT_AGAIN)
        keep = draft["reasons"].combine_chunks().value_lengths().to_numpy() == 0
        for rows in lost:
            keep[rows["row"][rows["shard"] == shard.number]] = False
        if shard.name in near and not shard.always_stays:
            keep[read_near_duplicates(near[shard.name])["row"].to_numpy()] = False
        columns = {"keep": keep, CUT_OUT.name: draft[CUT_OUT.name]}
        files[shard.name] = write_parquet(pa.table(columns, KEEP), output / shard.name)
        documents += int(np.count_nonzero(keep))
        report_progress(number / len(shards), documents=documents)
    return {"files": files, "documents": documents}
