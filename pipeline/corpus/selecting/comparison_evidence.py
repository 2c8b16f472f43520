"""What comparisons leave beside the verdicts: evidence of contamination, and lines about their work.

Writes `selection/contamination/<source>.jsonl`, a line for each passage of a document that holds a
question of a task, and `<source>.common.jsonl`, the n-grams that are no evidence because many texts of
the source hold them: the number of documents (copies included), and the questions whose words they are.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.corpus.decontaminating.common_grams import read_common_grams
from pipeline.corpus.decontaminating.decontaminate import Decontaminated, read_evidence
from pipeline.corpus.near_duplicates.near_duplicates import NearDuplicates
from pipeline.corpus.near_duplicates.repeated_paragraphs import RepeatedParagraphs
from pipeline.corpus.selecting.compared_documents import compared_name
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.logs import counted_noun
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.curation.selection_folder import SelectionFolder
from pipeline.store.files import temporary_path
from pipeline.store.records import FileRecord, Json


def write_contamination(
    folder: SelectionFolder, found: Decontaminated | None, shards: Sequence[JudgedShard]
) -> dict[str, FileRecord]:
    """Write the evidence, source by source; return the record of each file by its path.

    Sources without any have no file. Raises DataError for a damaged file of the search.
    """
    if found is None:
        return {}
    by_source: dict[str, list[JudgedShard]] = {}
    for shard in shards:
        by_source.setdefault(shard.source, []).append(shard)
    files: dict[str, FileRecord] = {}
    for source, of_source in by_source.items():
        common = iter(read_common_grams(found.common[source]).to_pylist())
        for path, lines in (
            (folder.contamination(source), _passages(found.evidence, of_source)),
            (folder.common_grams(source), common),
        ):
            record = _write_lines(path, lines)
            if record is not None:
                files[path.relative_to(folder.path).as_posix()] = record
    return files


def _passages(
    evidence: Mapping[str, Path], shards: Sequence[JudgedShard]
) -> Iterator[Mapping[str, Json]]:
    """Yield the passages of shards that hold questions, with the ids of their documents."""
    for shard in shards:
        for passage in read_evidence(evidence[compared_name(shard)]).to_pylist():
            row = passage.pop("row")
            yield {"id": f"{shard.identity}/{row}", **passage}


def _write_lines(path: Path, lines: Iterator[Mapping[str, Json]]) -> FileRecord | None:
    """Write JSON lines as a whole, one in memory at a time; write no file without any."""
    first = next(lines, None)
    if first is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with ChecksummedFile(temporary) as file:
            file.write(_json_line(first))
            for line in lines:
                file.write(_json_line(line))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return file.record()


def _json_line(value: Mapping[str, Json]) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def comparison_lines(
    near: NearDuplicates | None,
    paragraphs: RepeatedParagraphs | None,
    contaminated: Decontaminated | None,
) -> list[str]:
    """Return a line for each comparison that was made: what was compared, and in how many rounds."""
    lines: list[str] = []
    if near is not None:
        lines.append(
            f"near-duplicates: {near.in_groups:,} of {near.documents:,} documents share a band with "
            f"others, the largest group has {near.largest_group:,}; {near.compared:,} pairs compared in "
            f"{counted_noun(near.rounds, 'round')}, {near.removed:,} documents removed"
        )
    if paragraphs is not None:
        lines.append(
            f"{paragraphs.repeated:,} of {paragraphs.paragraphs:,} paragraphs are repeats and were cut "
            f"({paragraphs.characters:,} characters)"
        )
    if contaminated is not None:
        lines.append(
            f"questions of tasks: found in {counted_noun(contaminated.documents, 'document')}, "
            f"{contaminated.removed:,} removed, {contaminated.cut:,} cut; "
            f"{counted_noun(contaminated.common_grams, 'n-gram')} left out as common"
        )
        lines += _left_out_lines(contaminated)
    return lines


def _left_out_lines(found: Decontaminated) -> list[str]:
    """Return a line about questions that do not count in some documents; none without such."""
    if not found.left_out:
        return []
    verb = "does" if found.left_out_questions == 1 else "do"
    return [
        f"{counted_noun(found.left_out_questions, 'question')} found in "
        f"{counted_noun(found.left_out, 'document')} {verb} not count there: more than "
        "select.decontaminate.common_documents different texts of the source hold the same words; "
        "listed in contamination/<source>.common.jsonl"
    ]
