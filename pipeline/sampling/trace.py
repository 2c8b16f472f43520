"""`pipeline trace`: which documents made a step, and which steps saw a document.

Both are computed from the order of the run; no corpus is searched and nothing was written down for
it while training. Reads the run folder (config.yaml, metrics.jsonl, events.jsonl, the newest
checkpoint's manifest) and data_dir. Returns JSON values; `trace_view` prints them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.groups import GroupSizes, group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.documents import check_files, document_shard, listed_shards, read_documents
from pipeline.corpus.exact_json import loads_exactly
from pipeline.corpus.keys import find_documents
from pipeline.errors import DataError, UserError
from pipeline.sampling.dataset import open_data
from pipeline.sampling.documents_of_tokens import Span, TokenDocuments
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.order import other_version
from pipeline.sampling.recorded_tokens import tokens_of_run
from pipeline.sampling.skipped import skipped_samples
from pipeline.store.events import StartEvent, read_events
from pipeline.store.files import read_json
from pipeline.store.layout import (
    RunFolder,
    checkpoint_folders,
    data_folder,
    manifest_path,
)
from pipeline.store.metrics import last_step_record, step_record
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.tokens.pieces import Pieces, as_text, load_pieces

EXCERPT_TOKENS = 60
"""Of each part of a document, this many of its first tokens are shown as text."""
ORIGIN = ("id", "meta", "origin_file", "origin_row")


def open_run(run: Path, overrides: Sequence[str]) -> RunConfig:
    """Return the config of a run, given by its folder or by a run file that names it.

    Raises DataError where nothing was trained there yet.
    """
    if run.is_dir():
        folder = run
        changes = [*overrides]
    else:  # what it names now may have been moved, and changed, since the run began
        config = load(run, overrides)
        folder = config.paths.run_dir
        changes = [f"paths.data_dir={config.paths.data_dir}"]
    run_file = RunFolder(folder).config
    if not run_file.is_file():
        raise DataError(
            f"{folder}: holds no run (no {run_file.name}). Name a folder in which `pipeline train` has "
            "begun."
        )
    config = load(run_file, [f"paths.run_dir={folder.absolute()}", *changes])
    if not data_folder(config).tokens_manifest.is_file():
        raise DataError(
            f"{config.paths.data_dir}: the run's tokens are not there. If they have been moved, "
            "say where to: "
            "paths.data_dir=FOLDER"
        )
    return config


@dataclass(frozen=True)
class Run:
    """A run's data, and how far it has come."""

    config: RunConfig
    data: TrainingData
    completed: int
    """Steps."""

    @cached_property
    def documents(self) -> list[TokenDocuments]:
        """Of each source, in the order of the data's sources."""
        return [
            TokenDocuments(
                source.name, source.stream, self.config.sources[source.name].has_documents
            )
            for source in self.data.sources
        ]

    @cached_property
    def pieces(self) -> Pieces:
        """The tokenizer's vocabulary."""
        return load_pieces(data_folder(self.config).tokenizer / TOKENIZER_JSON)

    def positions(self, step: int) -> range:
        """Return the run's positions that a step consumes."""
        plan = self.config.step_plan
        return range(plan.first_position(step), plan.first_position(step + 1))


def read_run(config: RunConfig) -> Run:
    """Open a run's data and read how far it has come. Raises DataError where tokens that it trains
    on are gone."""
    run_dir = config.paths.run_dir
    before = read_json(RunFolder(run_dir).settings)
    of_another_version = other_version(before, run_dir) if before else None
    if of_another_version is not None:
        raise DataError(
            f"{of_another_version}, so its samples are not known. Trace it with the version that "
            "began it."
        )
    data = open_data(config, recorded=tokens_of_run(config))
    saved = map(manifest_path, checkpoint_folders(RunFolder(run_dir).checkpoints))
    newest = [path for path in saved if path.exists()][-1:]
    skipped = tuple(
        (first, end) for path in newest for first, end in read_json(path)["state"]["skipped"]
    )
    last = last_step_record(run_dir)
    order = data.order.skipping(skipped_samples(config, skipped))
    return Run(config, TrainingData(order, data.sources, data.shape), last["step"] if last else 0)


def trace_step(
    run: Run, step: int, rank: int | None = None, row: int | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Return the rows of a step's global batch, or those of one rank or one row, with the documents
    in them.

    Of many rows the first `limit`, if there is one.

    Raises UserError for a step, rank or row that does not exist, saying which do.
    """
    total = run.config.total_steps
    if not 1 <= step <= total:
        raise UserError(
            f"--step {step}: the run has steps 1 to {total:,}, of which {run.completed:,} are done"
        )
    positions = run.positions(step)
    sizes = _groups_at(run.config.paths.run_dir, step)
    asked = _chosen_rows(run.config, len(positions), sizes, rank, row)
    chosen = asked[:limit]
    places = run.data.order.locate(positions.start + np.array(chosen))
    rows = []
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
    return {
        "run": str(run.config.paths.run_dir),
        "step": step,
        "done": step <= run.completed,
        "ranks": sizes.world if sizes else None,
        "row_count": len(asked),
        "rows": rows,
        "data": _compare_checksum(run, step) if step <= run.completed else None,
    }


def trace_document(run: Run, key: str) -> dict[str, Any]:
    """Return, for each document with this id (ours, an original one, or a url), the steps that see
    it.

    Raises UserError where there is no such document.
    """
    documents_dir = data_folder(run.config).documents
    with_text = [name for name, source in run.config.sources.items() if source.has_documents]
    ids = find_documents(documents_dir, key, with_text) or _in_existing_pairs(run, key)
    if not ids:
        raise UserError(
            f"--document {key}: no document of the run's sources ({', '.join(run.config.sources)}) "
            "has this id or url"
        )
    found = []
    for identity in ids:
        source, shard, row = identity.split("/")
        found.append(
            {
                "id": identity,
                **_origin(run, source, shard, int(row)),
                **_seen(run, source, shard, int(row)),
            }
        )
    return {
        "run": str(run.config.paths.run_dir),
        "completed_steps": run.completed,
        "documents": found,
    }


def _seen(run: Run, source: str, shard: str, row: int) -> dict[str, Any]:
    if shard.startswith("validation_"):
        return {"held_out": True, "tokens": None, "times": []}
    index = run.data.order.names.index(source)
    where = run.documents[index].find(shard, row)
    if where is None:
        return {"held_out": False, "tokens": 0, "times": []}
    cut = run.data.sources[index].rows
    count = run.config.total_samples
    rows = cut.overlapping(*where) if cut.count else np.zeros(0, np.int64)
    plan = run.config.step_plan
    times = []
    for epoch, positions in run.data.order.find(source, rows, count).items():
        for sequence, position in zip(rows.tolist(), positions.tolist(), strict=True):
            if position >= 0:
                step = plan.step_of(position)
                part = [
                    s for _, s in _spans(run, index, sequence) if (s.shard, s.row) == (shard, row)
                ]
                times.append(
                    {
                        "step": step,
                        "row": position - plan.first_position(step),
                        "epoch": epoch,
                        "sequence": sequence,
                        "spans": [[s.first, s.end] for s in part],
                        "done": step <= run.completed,
                    }
                )
    return {
        "held_out": False,
        "tokens": where[1] - where[0],
        "times": sorted(times, key=lambda t: (t["step"], t["row"])),
    }


def _spans(run: Run, source: int, sequence: int) -> Iterator[tuple[int, Span]]:
    """Yield the parts of documents that a row reads, the last target included, each with its first
    token of the stream."""
    pieces = run.data.sources[source].rows.pieces(np.array([sequence]))
    for start, length in zip(pieces.start.tolist(), pieces.length.tolist(), strict=True):
        at = start
        for span in run.documents[source].of(start, start + length + 1):
            yield at, span
            at += span.end - span.first


def _documents_of(run: Run, source: int, sequence: int) -> list[dict[str, Any]]:
    """Return the parts of documents that a row reads, with the beginning of their text."""
    stream = run.data.sources[source].stream
    parts = []
    for at, span in _spans(run, source, sequence):
        ids = stream.read(at, min(span.end - span.first, EXCERPT_TOKENS))
        parts.append({**asdict(span), "excerpt": _decode(run.pieces, ids)})
    return parts


def _decode(pieces: Pieces, ids: np.ndarray) -> str:
    known = len(pieces.of_id)
    return as_text(b"".join(pieces.of_id[i] if i < known else b"<%d>" % i for i in ids.tolist()))


def _add_origins(run: Run, rows: list[dict[str, Any]]) -> None:
    """Put id, meta and origin of each document into its parts, reading each shard once."""
    wanted: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        for part in row["documents"]:
            wanted.setdefault((row["source"], part["shard"]), []).append(part)
    for (source, shard), parts in wanted.items():
        for part, origin in zip(
            parts, _origins(run, source, shard, [part["row"] for part in parts]), strict=True
        ):
            part |= origin


def _origin(run: Run, source: str, shard: str, row: int) -> dict[str, Any]:
    return next(_origins(run, source, shard, [row]))


def _origins(run: Run, source: str, shard: str, rows: list[int]) -> Iterator[dict[str, Any]]:
    path = document_shard(data_folder(run.config).documents / source, shard)
    if not _is_listed(
        run, path
    ):  # ids that existed already, or documents that data_dir has no longer
        yield from ({"meta": None, "origin_file": None, "origin_row": None} for _ in rows)
        return
    for document in read_documents(path, rows, ORIGIN):
        yield {
            "meta": loads_exactly(document["meta"].encode()),
            "origin_file": document["origin_file"],
            "origin_row": document["origin_row"],
        }


def _is_listed(run: Run, path: Path) -> bool:
    """Tell whether data_dir is to have a documents shard. Raises DataError where that is
    missing."""
    documents_dir = data_folder(run.config).documents
    if not manifest_path(documents_dir).is_file():
        return False
    name = path.relative_to(documents_dir).as_posix()
    shards = listed_shards(documents_dir)
    if name in shards:
        check_files(documents_dir, {name: shards[name]})
    return name in shards


def _in_existing_pairs(run: Run, key: str) -> list[str]:
    """Return the key if it is `source/pair/number` of a document of ids that existed already."""
    source, _, rest = key.partition("/")
    shard, _, number = rest.partition("/")
    if (
        source not in run.config.sources
        or run.config.sources[source].has_documents
        or not number.isdecimal()
    ):
        return []
    found = run.documents[run.data.order.names.index(source)].find(shard, int(number))
    return [key] if found else []


def _groups_at(run_dir: Path, step: int) -> GroupSizes | None:
    """Return the groups of ranks that trained a step, by the last start before it; None where none
    is known."""
    starts: list[StartEvent] = read_events(run_dir, "start")
    before = [event for event in starts if event["step"] < step]
    return group_sizes(before[-1]["ranks"]) if before else None


def _data_rank_of(config: RunConfig, row: int, sizes: GroupSizes | None) -> int | None:
    """Return the data rank that reads a row of a global batch, the inverse of
    `RankShare.positions`."""
    if sizes is None:
        return None
    return row // config.batch.micro_batch_sequences % sizes.data


def _chosen_rows(
    config: RunConfig, size: int, sizes: GroupSizes | None, rank: int | None, row: int | None
) -> list[int]:
    if row is not None and not 0 <= row < size:
        raise UserError(f"--row {row}: a global batch has rows 0 to {size - 1}")
    if rank is not None and sizes is None:
        raise UserError(
            f"--rank {rank}: the run has not started yet, so how many ranks there will be is not "
            "known"
        )
    if rank is not None and sizes is not None and not 0 <= rank < sizes.data:
        raise UserError(f"--rank {rank}: the step was made by ranks 0 to {sizes.data - 1}")
    rows = range(size) if row is None else [row]
    return [
        number for number in rows if rank is None or _data_rank_of(config, number, sizes) == rank
    ]


def _compare_checksum(run: Run, step: int) -> dict[str, Any]:
    """Read the step's samples again and compare their checksum with the one that training
    logged."""
    record = step_record(run.config.paths.run_dir, step)
    logged = record.get("data_checksum") if record else None
    now = f"{run.data.read(run.positions(step)).checksum:016x}"
    return {"checksum": now, "logged": logged, "same": None if logged is None else now == logged}
