"""Documents of which nothing is left once their repeated paragraphs are cut.

Such a document is no copy that stays: what is like it would lose to nothing. So near-duplicates
are compared again without it among those that others lose to
(`near_duplicates/emptied_documents.py`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from pipeline.corpus.documents import read_documents
from pipeline.corpus.near_duplicates.emptied_documents import rows_in_groups, write_emptied
from pipeline.corpus.near_duplicates.repeated_paragraphs import read_cuts
from pipeline.corpus.parquet_tables import read_parquet
from pipeline.corpus.rows import is_blank
from pipeline.corpus.selecting.compared_documents import compared_name
from pipeline.corpus.selecting.judge import DRAFT
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.corpus.selecting.verdicts import Cut, apply_cuts, joined_cuts
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress

SUFFIX = ".rows"


class EmptiedShards(TypedDict):
    """Result of the work item of one group of shards."""

    files: Mapping[str, FileRecord]
    """Path below the folder of the round -> size and checksum; only of shards with such documents."""
    documents: int


def paragraphs_to_cut(path: Path) -> dict[int, list[Cut]]:
    """Return the paragraphs of a shard's documents that stood before, as parts to cut, by row."""
    by_row: dict[int, list[Cut]] = {}
    for row in read_cuts(path).to_pylist():
        cut: Cut = {
            "start": row["start"],
            "end": row["end"],
            "replacement": "",
            "reason": "repeated-paragraph",
        }
        by_row.setdefault(row["row"], []).append(cut)
    return by_row


def is_blank_without(text: str, cuts: Sequence[Cut]) -> bool:
    """Tell whether a text is blank once its parts are replaced; `cuts` in any order."""
    joined, _ = joined_cuts(cuts, len(text))
    return is_blank(apply_cuts(text, joined))


def write_emptied_rows(
    folders: Mapping[str, Path],
    shards: Sequence[JudgedShard],
    paragraphs: Mapping[str, Path],
    comparison: Path,
    output: Path,
) -> EmptiedShards:
    """Write the rows of a group's documents that are blank without their repeated paragraphs.

    `folders`: those of `documents` and `drafts`. `paragraphs`: by the path of a shard.
    `comparison`: folder of the near-duplicates; documents that share no band with others decide
    nothing there, and are left out.
    """
    files: dict[str, FileRecord] = {}
    documents = 0
    for number, shard in enumerate(shards, 1):
        report_progress(number / len(shards), documents=documents)
        if shard.always_stays:
            continue
        repeated = paragraphs_to_cut(paragraphs[shard.name])
        in_groups = rows_in_groups(comparison, compared_name(shard)).tolist()
        rows = sorted(repeated.keys() & {*in_groups})
        if not rows:
            continue
        spans = read_parquet(folders["drafts"] / shard.name, DRAFT, SELECT_AGAIN)["spans"]
        texts = read_documents(folders["documents"] / shard.name, rows, ["text"])
        emptied = [
            row
            for row, document in zip(rows, texts, strict=True)
            if is_blank_without(document["text"], [*spans[row].as_py(), *repeated[row]])
        ]
        if emptied:
            path = output / f"{shard.name}{SUFFIX}"
            files[path.relative_to(output).as_posix()] = write_emptied(path, emptied)
            documents += len(emptied)
    return {"files": files, "documents": documents}
