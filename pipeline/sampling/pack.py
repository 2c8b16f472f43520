"""The stage `pack`: with `data.packing: best-fit`, writes the index of packed rows.

Reads the tokens. Writes, in the packing's folder of this sequence length, <source>/<shard>.rows
(`packed_rows.py`) and then the manifest of the index; training reads nothing else. The index is
made once for a corpus and a sequence length, and all runs share it. Indexes of several sequence
lengths lie side by side.

The manifest of the stage lies beside the index. An index without one is valid too: an earlier
version of `train` wrote such indexes.
"""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypedDict

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError, out_of_space
from pipeline.sampling.best_fit import PackedShard, pack_shard
from pipeline.store import versions
from pipeline.store.artifacts import Result, read_manifest
from pipeline.store.counts import PackCounts, PaddedRowCounts, RowCounts, TokenizeCounts
from pipeline.store.files import file_record, fingerprint, read_json, remove_unlisted, write_json
from pipeline.store.layout import MANIFEST, PACK_MANIFEST, data_folder, manifest_path
from pipeline.store.manifests.moved_files import existing_place
from pipeline.store.manifests.shard_places import logical_name, placed, source_of, stem_of
from pipeline.store.records import ListedFile, Manifest, ManifestMadeBefore, SizedFile, content_of
from pipeline.work.executor import run_tasks
from pipeline.work.placed_outputs import placed_files, settle_outputs
from pipeline.work.task import Task
from pipeline.work.workers import workers

ROWS_SUFFIX = ".rows"
OUTPUTS = (f"*/*{ROWS_SUFFIX}", f"*/??/*{ROWS_SUFFIX}")
"""Files of rows, in the folder of a source or a part of it."""
LEFTOVERS = ("*/.*.partial", "*/??/.*.partial")
"""Files that a killed attempt may leave."""


def rows_path(folder: Path, source: str, shard: str, in_parts: bool = False) -> Path:
    """Return the file of one shard's rows; `folder` is the packing's, `shard` as its manifest names.

    `in_parts`: whether the source's files lie in parts of its folder.
    """
    return folder / placed(f"{source}/{shard}{ROWS_SUFFIX}", in_parts)


class PackedSource(PaddedRowCounts):
    """Record of one source in the manifest of the index."""

    shards: list[tuple[str, int]]
    """Name and rows of each shard, in the tokens' order."""


class PackingManifest(TypedDict):
    """The manifest of an index of packed rows of one sequence length."""

    sequence_length: int
    """Tokens in a row."""
    fingerprint: str
    """Hash of the tokens, the sequence length and the version of the stage `pack`."""
    sources: dict[str, PackedSource]


def read_packing(config: RunConfig) -> PackingManifest | None:
    """Return the manifest of the index of the run's sequence length, None where it is incomplete."""
    return read_json(manifest_path(_folder(config)))


def pack(config: RunConfig) -> Result[PackCounts]:
    """Pack the training text of every source into rows of the run's sequence length.

    Raises DataError where there are no finished tokens, a shard is broken, or the index cannot be
    written.
    """
    # Without its manifest an index is incomplete, whatever happens below.
    folder = _folder(config)
    tasks = _tasks(config, _read_tokens(config))
    _require_writable(folder)
    for manifest in (manifest_path(folder), folder / PACK_MANIFEST):
        manifest.unlink(missing_ok=True)
    # One task a shard; finished shards of an interrupted run are kept.
    settle_outputs(folder, tasks, (ROWS_SUFFIX,))
    with workers(config.executor) as crew:
        results: dict[str, PackedShard] = run_tasks(tasks, folder, crew, "pack")
    files = placed_files(tasks, {name: result["files"] for name, result in results.items()})
    remove_unlisted(folder, list(files), [*OUTPUTS, *LEFTOVERS])
    # The manifest comes last: it makes the index complete.
    packing: PackingManifest = {
        "sequence_length": config.data.sequence_length,
        "fingerprint": _fingerprint(tasks),
        "sources": {
            source: _add_up(source, results, config.data.sequence_length)
            for source in config.sources
        },
    }
    write_json(manifest_path(folder), packing)
    files[MANIFEST] = file_record(manifest_path(folder))
    return Result(_counts(packing), files)


def complete_index(config: RunConfig) -> ManifestMadeBefore | None:
    """Return the manifest that `pack` would write for the index that is there.

    None where the index is incomplete, or was made of other tokens.
    """
    folder = _folder(config)
    packing = read_packing(config)
    if packing is None or read_manifest(data_folder(config).tokens_manifest) is None:
        return None
    if packing["fingerprint"] != _fingerprint(_tasks(config, _read_tokens(config))):
        return None
    manifest_bytes = manifest_path(folder).stat().st_size
    files: dict[str, SizedFile] = {MANIFEST: {"bytes": manifest_bytes}}
    for source, counts in packing["sources"].items():
        for shard, _ in counts["shards"]:
            path = existing_place(rows_path(folder, source, shard))
            if not path.is_file():
                return None
            files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size}
    return {
        "seconds": None,
        "counts": _counts(packing),
        "closing": [],
        "inputs": {},
        "files": files,
    }


def _folder(config: RunConfig) -> Path:
    return data_folder(config).packing(config.data.sequence_length)


def _read_tokens(config: RunConfig) -> Mapping[str, ListedFile]:
    """Return the records of the token files by name. Raises DataError where tokenize is not done."""
    tokens = data_folder(config).tokens
    manifest: Manifest[TokenizeCounts] | None = read_manifest(manifest_path(tokens))
    if manifest is None:
        raise DataError(f"{tokens}: holds no finished tokens. Run `pipeline tokenize` first.")
    return manifest["files"]


def _tasks(config: RunConfig, files: Mapping[str, ListedFile]) -> list[Task]:
    """Return a task for each training shard of the run's sources, in the order of reading."""
    tokens = data_folder(config).tokens
    tasks: list[Task] = []
    for name in sorted((name for name in files if name.endswith(".bin")), key=logical_name):
        prefix = name.removesuffix(".bin")
        source = source_of(name)
        shard = stem_of(name)
        # Rows lie as tokens do.
        in_parts = name != logical_name(name)
        if source not in config.sources or not shard.startswith("train_"):
            continue
        records = [files[f"{prefix}{suffix}"] for suffix in (".bin", ".idx")]
        # Token files that were made elsewhere are links: only their owner can make them again.
        links = [record.get("link_to", "") for record in records]
        remedy = None
        if all(links):
            remedy = f"Copy {' and '.join(links)} again."
        arguments = {
            "source": source,
            "prefix": tokens / prefix,
            "path": rows_path(_folder(config), source, shard, in_parts),
            "sequence_length": config.data.sequence_length,
            "remedy": remedy,
        }
        contents = [content_of(record) for record in records]
        # Twice, as packing and file format had a version each when the first indexes were made.
        version = [versions.PACK, versions.PACK]
        key = fingerprint([*version, config.data.sequence_length, contents])
        tasks.append(
            Task(
                f"{source}~{shard}",
                pack_shard,
                arguments,
                key,
                records[0]["bytes"],
                outputs_in_parts=in_parts,
            )
        )
    return tasks


def _fingerprint(tasks: list[Task]) -> str:
    """Return the fingerprint of everything that decides the index."""
    return fingerprint({task.name: task.fingerprint for task in tasks})


def _add_up(source: str, results: Mapping[str, PackedShard], sequence_length: int) -> PackedSource:
    """Return the manifest's record of one source, from the results of all tasks."""
    own = {
        name.partition("~")[2]: result
        for name, result in results.items()
        if name.partition("~")[0] == source
    }
    counts = _sum(own.values())
    return {
        "shards": [(shard, result["rows"]) for shard, result in own.items()],
        **counts,
        "padding_positions": counts["rows"] * sequence_length - counts["positions"],
    }


def _sum(counts: Collection[RowCounts]) -> RowCounts:
    return {
        "documents": sum(count["documents"] for count in counts),
        "cut_documents": sum(count["cut_documents"] for count in counts),
        "positions": sum(count["positions"] for count in counts),
        "pieces": sum(count["pieces"] for count in counts),
        "rows": sum(count["rows"] for count in counts),
    }


def _counts(packing: PackingManifest) -> PackCounts:
    """Return the counts of the stage's manifest: totals of each source, and a headline."""
    length = packing["sequence_length"]
    sources: dict[str, PaddedRowCounts] = {
        source: {**_sum([counts]), "padding_positions": counts["padding_positions"]}
        for source, counts in packing["sources"].items()
    }
    total = _sum(sources.values())
    places = total["rows"] * length
    empty = sum(counts["padding_positions"] for counts in sources.values())
    padding = empty / max(1, places)
    headline = (
        f"{total['rows']:,} rows of {length:,} positions, {padding:.2%} of them padding; of "
        f"{total['documents']:,} documents {total['cut_documents']:,} are longer than a row and cut"
    )
    return {"headline": headline, "sequence_length": length, "sources": sources}


def _require_writable(folder: Path) -> None:
    """Raise DataError where a file cannot be written in a folder, before any shard is packed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        full = out_of_space(error, folder)
        if full:
            raise full from None
        raise DataError(
            f"{folder}: the packing of this sequence length is missing, or was made of other tokens, "
            f"and cannot be written there ({error.strerror}). Run the same command once where "
            "paths.data_dir is writable; from then on it is only read."
        ) from None
