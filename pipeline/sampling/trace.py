"""`pipeline trace`: which documents made a step, and which steps read a document.

Both are computed from the order of the run: no corpus is searched, and training records nothing for
it. Reads metrics.jsonl and events.jsonl of the run (`traced_run.py` opens it), token files and
documents. Returns JSON values (`trace_records.py`); `trace_view` prints them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.config.groups import GroupSizes, group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import (
    check_files,
    listed_name,
    listed_shards,
    read_documents,
    shard_path,
)
from pipeline.corpus.exact_json import loads_exactly
from pipeline.corpus.keys import find_documents
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.errors import UserError
from pipeline.sampling.documents_of_tokens import Span
from pipeline.sampling.trace_records import (
    ComparedChecksum,
    DocumentOrigin,
    DocumentUse,
    TimeSeen,
    TracedDocument,
    TracedDocuments,
    TracedRow,
    TracedSpan,
    TracedStep,
)
from pipeline.sampling.traced_run import TracedRun
from pipeline.store.events import StartEvent, read_events
from pipeline.store.layout import (
    data_folder,
    manifest_path,
)
from pipeline.store.metrics import step_record
from pipeline.tokens.pieces import Pieces, as_text

EXCERPT_TOKENS = 60
"""Tokens at the beginning of each part of a document that are printed as text."""
ORIGIN = ("id", "meta", "origin_file", "origin_row")
"""Columns of a documents shard that are read."""


NO_ORIGIN: DocumentOrigin = {"meta": None, "origin_file": None, "origin_row": None}


def trace_step(
    run: TracedRun,
    step: int,
    rank: int | None = None,
    row: int | None = None,
    limit: int | None = None,
) -> TracedStep:
    """Return the rows of a step's global batch, with the documents in them.

    Only rows of `rank`, only the row `row`, and at most `limit` rows, where these are given. Raises
    UserError for a step, rank or row that does not exist, and names those that do.
    """
    total = run.config.total_steps
    if not 1 <= step <= total:
        raise UserError(
            f"--step {step}: the run has steps 1 to {total:,}, of which {run.completed:,} are done"
        )
    # Which rows are asked for, and where their samples lie.
    positions = run.positions(step)
    sizes = _groups_at(run.config.paths.run_dir, step)
    rows_asked_for = _chosen_rows(run.config, len(positions), sizes, rank, row)
    chosen = rows_asked_for[:limit]
    places = run.data.order.locate(positions.start + np.array(chosen))
    rows: list[TracedRow] = []
    for place, number in enumerate(chosen):
        source = run.data.sources[int(places.source[place])]
        rows.append(
            {
                "row": number,
                "rank": _data_rank_of(run.config, number, sizes),
                "sample": int(places.sample[place]),
                "source": source.name,
                "epoch": int(places.epoch[place]),
                "sequence": int(places.row[place]),
                "documents": _documents_of(run, int(places.source[place]), int(places.row[place])),
            }
        )
    _add_origins(run, rows)
    # Of a step that is done, training logged a checksum of the data.
    is_done = step <= run.completed
    ranks = None
    if sizes is not None:
        ranks = sizes.world
    compared = None
    if is_done:
        compared = _compare_checksum(run, step)
    return {
        "run": str(run.config.paths.run_dir),
        "step": step,
        "done": is_done,
        "ranks": ranks,
        "row_count": len(rows_asked_for),
        "rows": rows,
        "data": compared,
    }


def trace_document(run: TracedRun, key: str) -> TracedDocuments:
    """Return the documents that `key` names, and the steps that read each of them.

    `key`: `source/shard/row`, an original id, or a url. Raises UserError where no document of the
    run's sources has it.
    """
    documents_dir = data_folder(run.config).documents
    ids = find_documents(documents_dir, key, run.config.sources_with_text) or _in_existing_pairs(
        run, key
    )
    if not ids:
        raise UserError(
            f"--document {key}: no document of the run's sources ({', '.join(run.config.sources)}) "
            "has this id or url"
        )

    # Where each came from, and when it is read or why not.
    documents: list[TracedDocument] = []
    for identity in ids:
        source, shard, row = identity.split("/")
        document: TracedDocument = {
            "id": identity,
            **document_origin(run, source, shard, int(row)),
            **document_use(run, source, shard, int(row)),
        }
        removed = _reasons_removed(run, source, shard, int(row))
        if removed:
            document["removed"] = removed
        documents.append(document)
    return {
        "run": str(run.config.paths.run_dir),
        "completed_steps": run.completed,
        "documents": documents,
    }


def _reasons_removed(run: TracedRun, source: str, shard: str, row: int) -> list[str]:
    """Return the reasons for which `select` has removed a document; empty where it is read."""
    kept = kept_documents(run.config)
    if kept.selection is None or not run.config.sources[source].has_documents:
        return []
    return kept.reasons(shard_path(kept.folder, source, shard), row)


def document_use(
    run: TracedRun, source: str, shard: str, row: int, part: tuple[int, int] | None = None
) -> DocumentUse:
    """Return when the run reads a document, in the order of training.

    `part`: only times that read one of the document's tokens `[first, end)`.
    """
    if shard.startswith("validation_"):
        return {"held_out": True, "tokens": None, "times": []}
    index = run.data.order.names.index(source)
    tokens = run.documents[index].find(shard, row)
    if tokens is None:
        return {"held_out": False, "tokens": 0, "times": []}

    # The rows of the source that the document's tokens lie in.
    first, end = tokens
    if part is None:
        part = (0, end - first)
    rows_of_source = run.data.sources[index].rows
    rows = np.zeros(0, np.int64)
    if rows_of_source.count:
        rows = rows_of_source.overlapping(first + part[0], first + part[1])

    # The step that consumes each of these rows, in every epoch of the run.
    plan = run.config.step_plan
    times: list[TimeSeen] = []
    for epoch, positions in run.data.order.find(source, rows, run.config.total_samples).items():
        for sequence, position in zip(rows.tolist(), positions.tolist(), strict=True):
            if position >= 0:
                step = plan.step_of(position)
                times.append(
                    {
                        "step": step,
                        "row": position - plan.first_position(step),
                        "epoch": epoch,
                        "sequence": sequence,
                        "spans": _ranges_of_document(run, index, sequence, shard, row),
                        "done": step <= run.completed,
                    }
                )
    times.sort(key=_step_and_row)
    return {"held_out": False, "tokens": end - first, "times": times}


def _step_and_row(time: TimeSeen) -> tuple[int, int]:
    return time["step"], time["row"]


def _ranges_of_document(
    run: TracedRun, source: int, sequence: int, shard: str, row: int
) -> list[tuple[int, int]]:
    """Return the ranges `[first, end)` of a document's tokens that a row of its source reads."""
    return [
        (span.first, span.end)
        for _, span in _spans(run, source, sequence)
        if span.shard == shard and span.row == row
    ]


def _spans(run: TracedRun, source: int, sequence: int) -> Iterator[tuple[int, Span]]:
    """Yield the parts of documents that a row reads, each with its first token in the stream.

    The last target of the row is included.
    """
    pieces = run.data.sources[source].rows.pieces(np.array([sequence]))
    for start, length in zip(pieces.start.tolist(), pieces.length.tolist(), strict=True):
        at = start
        for span in run.documents[source].of(start, start + length + 1):
            yield at, span
            at += span.end - span.first


def _documents_of(run: TracedRun, source: int, sequence: int) -> list[TracedSpan]:
    """Return the parts of documents that a row reads, with the beginning of their text.

    Their origins are added later, as reading a shard once for all rows is cheaper.
    """
    stream = run.data.sources[source].stream
    parts: list[TracedSpan] = []
    for at, span in _spans(run, source, sequence):
        ids = stream.read(at, min(span.end - span.first, EXCERPT_TOKENS))
        parts.append(
            {
                "id": span.id,
                "shard": span.shard,
                "row": span.row,
                "first": span.first,
                "end": span.end,
                "tokens": span.tokens,
                "excerpt": _decode(run.pieces, ids),
                **NO_ORIGIN,
            }
        )
    return parts


def _decode(pieces: Pieces, ids: np.ndarray) -> str:
    """Return the text of token ids; an id that the tokenizer does not have is printed as a number."""
    size = len(pieces.of_id)
    numbers: list[int] = ids.tolist()
    return as_text(b"".join(pieces.of_id[i] if i < size else b"<%d>" % i for i in numbers))


def _add_origins(run: TracedRun, rows: list[TracedRow]) -> None:
    """Put the origin of each document into its parts, reading each shard once."""
    parts_of_shards: dict[tuple[str, str], list[TracedSpan]] = {}
    for row in rows:
        for part in row["documents"]:
            parts_of_shards.setdefault((row["source"], part["shard"]), []).append(part)
    for (source, shard), parts in parts_of_shards.items():
        origins = _origins(run, source, shard, [part["row"] for part in parts])
        for part, origin in zip(parts, origins, strict=True):
            part["meta"] = origin["meta"]
            part["origin_file"] = origin["origin_file"]
            part["origin_row"] = origin["origin_row"]


def document_origin(run: TracedRun, source: str, shard: str, row: int) -> DocumentOrigin:
    """Return where a document came from. Raises DataError where its shard is gone."""
    return next(_origins(run, source, shard, [row]))


def _origins(run: TracedRun, source: str, shard: str, rows: list[int]) -> Iterator[DocumentOrigin]:
    """Yield the origins of documents of one shard, in the order of `rows`."""
    path = _listed_shard(run, source, shard)
    # Token files made elsewhere have no documents, and data_dir may have lost its documents.
    if path is None:
        yield from (NO_ORIGIN for _ in rows)
        return
    for document in read_documents(path, rows, ORIGIN):
        yield {
            "meta": loads_exactly(document["meta"].encode()),
            "origin_file": document["origin_file"],
            "origin_row": document["origin_row"],
        }


def _listed_shard(run: TracedRun, source: str, shard: str) -> Path | None:
    """Return a shard that the manifest of documents lists, None where it does not.

    Raises DataError where it does, but the file is missing.
    """
    documents_dir = data_folder(run.config).documents
    if not manifest_path(documents_dir).is_file():
        return None
    name = listed_name(documents_dir, source, shard)
    if name is None:
        return None
    check_files(documents_dir, {name: listed_shards(documents_dir)[name]})
    return documents_dir / name


def _in_existing_pairs(run: TracedRun, key: str) -> list[str]:
    """Return the key if it is `source/pair/number` of a document in token files made elsewhere."""
    source, _, rest = key.partition("/")
    shard, _, number = rest.partition("/")
    if (
        source not in run.config.sources
        or run.config.sources[source].has_documents
        or not number.isdecimal()
    ):
        return []
    documents = run.documents[run.data.order.names.index(source)]
    if documents.find(shard, int(number)) is None:
        return []
    return [key]


def _groups_at(run_dir: Path, step: int) -> GroupSizes | None:
    """Return the groups of ranks that trained a step: those of the last start before the step.

    None where the run has not started before it.
    """
    starts: list[StartEvent] = read_events(run_dir, "start")
    before = [event for event in starts if event["step"] < step]
    if not before:
        return None
    return group_sizes(before[-1]["ranks"])


def _data_rank_of(config: RunConfig, row: int, sizes: GroupSizes | None) -> int | None:
    """Return the data rank that reads a row of a global batch.

    The inverse of `RankShare.positions`; None where the groups are unknown.
    """
    if sizes is None:
        return None
    return row // config.batch.micro_batch_sequences % sizes.data


def _chosen_rows(
    config: RunConfig, size: int, sizes: GroupSizes | None, rank: int | None, row: int | None
) -> list[int]:
    """Return the rows of a global batch of `size` rows that `rank` and `row` ask for.

    Raises UserError where the rank or the row does not exist.
    """
    if row is not None and not 0 <= row < size:
        raise UserError(f"--row {row}: a global batch has rows 0 to {size - 1}")
    if rank is not None and sizes is None:
        raise UserError(
            f"--rank {rank}: the run has not started yet, so its number of ranks is unknown"
        )
    if rank is not None and sizes is not None and not 0 <= rank < sizes.data:
        raise UserError(f"--rank {rank}: the step was made by ranks 0 to {sizes.data - 1}")
    rows = range(size)
    if row is not None:
        rows = range(row, row + 1)
    return [
        number for number in rows if rank is None or _data_rank_of(config, number, sizes) == rank
    ]


def _compare_checksum(run: TracedRun, step: int) -> ComparedChecksum:
    """Read the step's samples again and compare their checksum with the logged one."""
    record = step_record(run.config.paths.run_dir, step)
    now = f"{run.data.read(run.positions(step)).checksum:016x}"
    logged = None
    if record is not None:
        logged = record.get("data_checksum")
    if logged is None:
        return {"checksum": now, "logged": None, "same": None}
    return {"checksum": now, "logged": logged, "same": now == logged}
