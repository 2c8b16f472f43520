"""Whole documents in training rows: best-fit packing, which cuts only documents longer than a row.

Reads data_dir/tokens; writes data_dir/packing/best-fit-<sequence_length>/<source>/<shard>.rows
(`packed_rows.py`) and, last, manifest.json there. It is made once for a corpus and a sequence
length, and shared by all runs.

A document of n tokens has n - 1 positions: each of its tokens but the last is an input, with the
next one as target. A document of one token, an empty text, has none and is in no row. Source: Ding
et al. 2024, "Fewer Truncations Improve Language Modeling", arXiv:2404.10830.
"""

import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError, out_of_space
from pipeline.sampling.packed_rows import FORMAT_VERSION, RowsWriter
from pipeline.store.artifacts import read_manifest
from pipeline.store.files import fingerprint, read_json, remove_unlisted, write_json
from pipeline.store.layout import MANIFEST
from pipeline.store.lease import Lease
from pipeline.tokens import indexed_dataset
from pipeline.tokens.indexed_dataset import BLOCK_DOCUMENTS, Shard
from pipeline.work.executor import Task, report_progress, run_tasks

PACKING_VERSION = 1
"""Raised when the same documents would be packed otherwise."""
GROUP_POSITIONS = 1 << 20
"""Least positions packed together: some 2 MB of tokens, so that the pieces of a row lie near each
other."""
GROUP_ROWS = 64
"""Least rows' worth of positions packed together: a group's last rows stay partly empty."""
COUNTS = ("documents", "cut_documents", "positions", "pieces", "rows")


def pack(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Return the row of each piece by best-fit decreasing, `(pieces,) int64`; rows count from 0, as
    they are opened.

    `lengths`: `(pieces,)`, each from 1 to `capacity`. Longer pieces come first, equal ones in their
    order; each goes to the row with the least room that is enough, among equal rows to the one that
    has had this room longest, else to a new row.

    All pieces of one length are placed together: rows of one room take room // length of them, one
    row after another, since a row that has taken one has now the least room of those that are
    enough.
    """
    counts = np.bincount(lengths, minlength=1)
    present = np.flatnonzero(counts)[::-1]
    waiting: defaultdict[int, deque[tuple[int, int]]] = defaultdict(
        deque
    )  # room -> ranges of rows, first come first
    rooms = 0  # bit r is set where rows of room r wait: the least room that is enough is found in one step
    runs: list[tuple[int, int, int]] = []  # first row, rows, pieces of this length for each
    opened = 0
    for length, count in zip(present.tolist(), counts[present].tolist(), strict=True):
        while count:
            enough = rooms >> length
            if not enough:
                new = -(-count // (capacity // length))
                waiting[capacity].append((opened, opened + new))
                rooms |= 1 << capacity
                opened += new
                continue
            room = length + (enough & -enough).bit_length() - 1
            row, end = waiting[room].popleft()
            each = room // length
            full = min(end - row, count // each)
            rest = (
                count - full * each if row + full < end else 0
            )  # fewer than `each`, for one row more
            for rows, pieces in ((full, each), (min(rest, 1), rest)):
                if rows:
                    runs.append((row, rows, pieces))
                    count -= rows * pieces
                    if left := room - pieces * length:
                        waiting[left].append((row, row + rows))
                        rooms |= 1 << left
                    row += rows
            if row < end:
                waiting[room].appendleft((row, end))
            elif not waiting[room]:
                rooms ^= 1 << room
    return _rows_of_pieces(lengths, capacity, runs)


def _rows_of_pieces(
    lengths: np.ndarray, capacity: int, runs: list[tuple[int, int, int]]
) -> np.ndarray:
    firsts, rows, pieces = np.array(runs, np.int64).reshape(-1, 3).T
    row = np.repeat(firsts - (np.cumsum(rows) - rows), rows) + np.arange(rows.sum())
    placed = np.empty(len(lengths), np.int64)
    placed[_stable_order(capacity - lengths)] = np.repeat(row, np.repeat(pieces, rows))
    return placed


def _stable_order(values: np.ndarray) -> np.ndarray:
    """Return the stable sorting order of values from 0; numpy sorts 16 bits by radix, several times
    faster."""
    fits = len(values) == 0 or values.max() < 1 << 16
    return np.argsort(values.astype(np.uint16) if fits else values, kind="stable")


def cut(starts: np.ndarray, positions: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut documents, given by first token and positions, into pieces of `capacity` and a rest;
    return those likewise."""
    pieces = -(-positions // capacity)
    within = (np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * capacity
    return np.repeat(starts, pieces) + within, np.minimum(
        np.repeat(positions, pieces) - within, capacity
    )


def document_groups(
    shard: Shard, least: int, remedy: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield first tokens and positions of consecutive documents, `(documents,) int64` each, those
    without positions left out.

    A group ends with the document that brings it to `least` positions; the last one may have fewer.
    Raises DataError, which ends with `remedy`, where the documents do not follow each other.
    """
    starts, positions = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for block_starts, block_positions in _document_blocks(shard, remedy):
        starts, positions = (
            np.concatenate([starts, block_starts]),
            np.concatenate([positions, block_positions]),
        )
        ends = np.cumsum(positions)
        first = before = 0
        while (last := int(np.searchsorted(ends, before + least))) < len(ends):
            yield starts[first : last + 1], positions[first : last + 1]
            first, before = last + 1, int(ends[last])
        starts, positions = starts[first:], positions[first:]
    if len(starts):
        yield starts, positions


def _document_blocks(shard: Shard, remedy: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    sequences = tokens = 0
    for first in range(0, len(shard.documents) - 1, BLOCK_DOCUMENTS):
        documents = np.asarray(shard.documents[first : first + BLOCK_DOCUMENTS + 1])
        last = int(documents[-1])
        lengths, offsets = (
            np.asarray(values[sequences:last]) for values in (shard.lengths, shard.offsets)
        )
        bounds = np.concatenate([[tokens], tokens + np.cumsum(lengths, dtype=np.int64)])
        if (
            documents[0] != sequences
            or (np.diff(documents) < 0).any()
            or last > len(shard.lengths)
            or (lengths < 0).any()
            or (offsets != bounds[:-1] * shard.ids.itemsize).any()
        ):
            raise _disordered(shard, remedy)
        starts = bounds[documents - sequences]
        positions = np.diff(starts) - 1
        kept = positions > 0
        yield starts[:-1][kept], positions[kept]
        sequences, tokens = last, int(bounds[-1])
    if sequences != len(shard.lengths):
        raise _disordered(shard, remedy)


def _disordered(shard: Shard, remedy: str) -> DataError:
    return DataError(
        f"{shard.prefix}.idx: its documents do not stand one after another in the .bin file, so it "
        "cannot be told where "
        f"each ends. {remedy}"
    )


def pack_shard(
    prefix: Path, path: Path, sequence_length: int, remedy: str | None
) -> dict[str, Any]:
    """Write the rows of one tokens shard (`prefix`.bin, .idx) to `path`. Raises DataError for a
    broken shard."""
    shard = indexed_dataset.read(prefix, remedy)
    remedy = remedy or indexed_dataset.made_again(indexed_dataset.with_suffix(prefix, ".idx"))
    positions_in_all = cut_documents = 0
    with RowsWriter(path, sequence_length) as writer:
        for starts, positions in document_groups(
            shard, max(GROUP_POSITIONS, GROUP_ROWS * sequence_length), remedy
        ):
            piece_starts, lengths = cut(starts, positions, sequence_length)
            rows = pack(lengths, sequence_length)
            order = _stable_order(rows)
            writer.add(np.bincount(rows), piece_starts[order], lengths[order])
            positions_in_all += int(positions.sum())
            cut_documents += int((positions > sequence_length).sum())
            report_progress(int(starts[-1] + positions[-1]) / len(shard.ids), rows=writer.rows)
        record = writer.finish()
    return {
        "documents": len(shard.documents) - 1,
        "cut_documents": cut_documents,
        "positions": positions_in_all,
        "pieces": writer.pieces,
        "rows": writer.rows,
        "files": {f"{path.parent.name}/{path.name}": record},
    }


def packing_folder(data_dir: Path, sequence_length: int) -> Path:
    """Return the folder of the packing of `sequence_length`."""
    return data_dir / "packing" / f"best-fit-{sequence_length}"


def rows_path(folder: Path, source: str, shard: str) -> Path:
    """Return the file of one shard's rows in a packing's folder; shards are named as in its
    manifest."""
    return folder / source / f"{shard}.rows"


def prepare_packing(config: RunConfig) -> dict[str, Any]:
    """Pack the training text of the run's sources into rows, unless that is done, and return the
    packing's manifest.

    It holds `sequence_length`, `fingerprint` (of the tokens, the sequence length and the versions
    of packing and format) and per source, under `sources`: `shards`, `[[name, rows], ...]` in the
    tokens' order; `documents`, `cut_documents`, `positions`, `pieces`, `rows`, and
    `padding_positions`, the rows' empty places.

    Raises DataError where there are no finished tokens or a shard is broken, or where the packing
    has to be made in a folder that cannot be written; LeaseError where somebody else is making it.
    """
    tokens, folder = (
        config.paths.data_dir / "tokens",
        packing_folder(config.paths.data_dir, config.data.sequence_length),
    )
    manifest = read_manifest(tokens / MANIFEST)
    if manifest is None:
        raise DataError(f"{tokens}: holds no finished tokens. Run `pipeline tokenize` first.")
    tasks = _tasks(config, tokens, folder, manifest["files"])
    made_from = fingerprint({task.name: task.fingerprint for task in tasks})
    if done := _finished(folder, made_from):
        return done
    _require_writable(folder)
    with Lease(folder, "best-fit packing for `pipeline train`"):
        if done := _finished(folder, made_from):
            return done
        (folder / MANIFEST).unlink(missing_ok=True)
        # Here, also where text work is sent to Slurm: a job that trains should not wait in the
        # queue for it.
        results = run_tasks(
            tasks, folder, config.executor.model_copy(update={"kind": "local"}), "pack rows"
        )
        files = [name for result in results.values() for name in result["files"]]
        remove_unlisted(folder, files, ["*/*.rows", "*/.*.partial"])
        sources = {
            source: _add_up(source, results, config.data.sequence_length)
            for source in config.sources
        }
        packing = {
            "sequence_length": config.data.sequence_length,
            "fingerprint": made_from,
            "sources": sources,
        }
        write_json(folder / MANIFEST, packing)
    return packing


def _finished(folder: Path, made_from: str) -> dict[str, Any] | None:
    packing = read_json(folder / MANIFEST)
    return packing if packing and packing["fingerprint"] == made_from else None


def _tasks(
    config: RunConfig, tokens: Path, folder: Path, files: Mapping[str, Mapping[str, Any]]
) -> list[Task]:
    """Return a task for each training shard of the run's sources, in the order in which the shards
    are read."""
    tasks = []
    for name in sorted(name for name in files if name.endswith(".bin")):
        prefix = name.removesuffix(".bin")
        source, _, shard = prefix.partition("/")
        if source not in config.sources or not shard.startswith("train_"):
            continue
        records = [files[f"{prefix}{suffix}"] for suffix in (".bin", ".idx")]
        links = [record.get("link_to", "") for record in records]  # pairs that somebody else made
        arguments = {
            "prefix": tokens / prefix,
            "path": rows_path(folder, source, shard),
            "sequence_length": config.data.sequence_length,
            "remedy": f"Copy {' and '.join(links)} again." if all(links) else None,
        }
        contents = [record.get("checksum") or record["identity"] for record in records]
        key = fingerprint([PACKING_VERSION, FORMAT_VERSION, config.data.sequence_length, contents])
        tasks.append(Task(f"{source}~{shard}", pack_shard, arguments, key, records[0]["bytes"]))
    return tasks


def _add_up(
    source: str, results: Mapping[str, Mapping[str, Any]], sequence_length: int
) -> dict[str, Any]:
    own = {
        name.partition("~")[2]: result
        for name, result in results.items()
        if name.partition("~")[0] == source
    }
    counts = {key: sum(result[key] for result in own.values()) for key in COUNTS}
    return {
        "shards": [[shard, result["rows"]] for shard, result in own.items()],
        **counts,
        "padding_positions": counts["rows"] * sequence_length - counts["positions"],
    }


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if full := out_of_space(error, folder):
            raise full from None
        raise DataError(
            f"{folder}: the packing of this sequence length is missing or of other tokens, and "
            "cannot be written there "
            f"({error.strerror}). Run the same command once where paths.data_dir is writable; from "
            "then on it is only read."
        ) from None
