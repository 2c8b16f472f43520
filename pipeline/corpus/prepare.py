"""The stage `prepare`: turn the raw files of every source into checked Parquet documents.

Reads the sources; writes `data_dir/documents/<source>/`, a share of it held out for validation,
and, for kind `local-machine`, `data_dir/raw/local-machine/`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import SHARD_SUFFIX, SPLITS
from pipeline.corpus.file_search import InputFile, SourceFiles
from pipeline.corpus.folders import count_left_out
from pipeline.corpus.groups import group_files
from pipeline.corpus.held_out.register import Register, find_held_out_texts
from pipeline.corpus.key_file import KEYS_SUFFIX
from pipeline.corpus.losses import (
    UsableSettings,
    add_up_losses,
    explain_no_document,
    explain_too_many_rejects,
    explain_unused_fields,
    list_by_count,
    loss_lines,
)
from pipeline.corpus.raw_files import UNREAD
from pipeline.corpus.read_task import (
    SAMPLES_SUFFIX,
    ReadResult,
    ReadSettings,
    read_files,
    read_settings,
    rejected_file,
)
from pipeline.corpus.row_settings import row_settings
from pipeline.corpus.search_notes import (
    count_empty_files,
    left_out_by_source,
    summarise_left_out,
    tree_lines,
    warn_about_files,
)
from pipeline.corpus.source_kind import input_files, source_kind
from pipeline.corpus.split import HashRange, SplitSetting, empty_split_advice, shared_split_advice
from pipeline.corpus.trees.find_trees import as_published
from pipeline.corpus.trees.side_gaps import warn_about_side_gaps
from pipeline.errors import DataError, TasksFailed
from pipeline.logs import human_bytes, warn
from pipeline.store import versions
from pipeline.store.artifacts import Result
from pipeline.store.counts import DocumentCounts, PrepareCounts, PreparedSource
from pipeline.store.files import fingerprint, remove_unlisted
from pipeline.store.layout import REJECTED, data_folder, rejected_rows
from pipeline.store.manifests.shard_places import needs_parts, placed
from pipeline.work.executor import run_tasks
from pipeline.work.placed_outputs import placed_files, settle_outputs
from pipeline.work.task import Task
from pipeline.work.workers import workers

SHOWN_PROBLEMS = 20
"""Maximum number of broken files that the stage's message lists."""
SHARD_SUFFIXES = (SHARD_SUFFIX, KEYS_SUFFIX)
OUTPUTS = (
    *(f"{folder}/*{suffix}" for folder in ("*", "*/??") for suffix in SHARD_SUFFIXES),
    *(f"*/{folder}/*{SAMPLES_SUFFIX}" for folder in (REJECTED, f"{REJECTED}/??")),
)
"""Files that the stage writes, in the folder of a source or a part of it."""
LEFTOVERS = (
    ".*.partial",
    "*/.*.partial",
    "*/??/.*.partial",
    f"*/{REJECTED}/.*",
    f"*/{REJECTED}/??/.*",
)
"""Files that a killed attempt may leave; their names are never used again."""


def prepare(config: RunConfig) -> Result[PrepareCounts]:
    """Make documents of all sources; a source of token ids (`megatron`) has none to make.

    Raises DataError, after all files were read, naming each broken file (`prepare.on_broken_file:
    stop`), each source with a larger share of rejected rows than `prepare.max_bad_rows`, and each
    source without documents.
    """
    folder = data_folder(config).documents

    # Find all files first: a missing path is reported before hours of reading.
    files = _find_all_files(config)
    warn_about_files(files)
    warn_about_side_gaps(config, files)
    config = as_published(config)

    # The same workers find the texts to hold out, then read all files.
    with workers(config.executor) as crew:
        held_out = find_held_out_texts(config, files, crew)
        tasks: dict[str, list[Task]] = {
            name: _placed_tasks(config, list(_tasks_of_source(config, name, files[name], held_out)))
            for name in config.sources
        }
        # From here on the older documents are no longer complete.
        data_folder(config).documents_manifest.unlink(missing_ok=True)
        remove_unlisted(folder, [], LEFTOVERS)
        every_task = [task for tasks_of_source in tasks.values() for task in tasks_of_source]
        settle_outputs(folder, every_task, SHARD_SUFFIXES)
        settle_outputs(folder, every_task, (SAMPLES_SUFFIX,), REJECTED)
        try:
            results: dict[str, ReadResult] = run_tasks(every_task, folder, crew, "prepare")
        except TasksFailed as error:
            raise DataError(_explain_broken_files(config, str(error).splitlines())) from None

    # Count per source, and refuse sources that are not what the run file expects.
    sources: dict[str, PreparedSource] = {}
    left_out = left_out_by_source(files)
    for name, tasks_of_source in tasks.items():
        sources[name] = {
            **_add_up([results[task.name] for task in tasks_of_source]),
            "input_files": len(files[name].files) + len(files[name].validation_files),
            "empty_files": count_empty_files(files[name]),
            "left_out": count_left_out(left_out[name]),
        }
    _refuse_bad_sources(config, sources)
    _warn_about_splits(config, sources)

    # Remove documents of tasks that are no longer part of the corpus.
    outputs = placed_files(every_task, {name: result["files"] for name, result in results.items()})
    samples = [
        placed(rejected_file(name, task.arguments["key"]), task.outputs_in_parts)
        for name, tasks_of_source in tasks.items()
        for task in tasks_of_source
    ]
    remove_unlisted(folder, [*outputs, *samples], [*OUTPUTS, *LEFTOVERS])
    counts: PrepareCounts = {"headline": _headline(sources), "sources": sources}
    closing = [*tree_lines(files), *_closing_lines(config, sources), *summarise_left_out(left_out)]
    return Result(counts, outputs, closing=closing)


def _explain_broken_files(config: RunConfig, problems: Sequence[str]) -> str:
    """Return the message for files that could not be read: a line for each file, and the remedy."""
    lines = list(problems[:SHOWN_PROBLEMS])
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"... and {len(problems) - SHOWN_PROBLEMS:,} more")
    remedy = "The documents of all other tasks are kept and not made again."
    is_any_broken = any(UNREAD not in problem for problem in problems)
    if is_any_broken and config.prepare.on_broken_file == "stop":
        remedy += (
            " Replace or remove a broken file; or set prepare.on_broken_file=keep-readable-rows to "
            "keep the rows before the damage."
        )
    return "\n".join([*lines, remedy])


def _find_all_files(config: RunConfig) -> dict[str, SourceFiles]:
    # Files that must exist already come first: a missing one is reported before the minutes that
    # other kinds take to write theirs.
    files = input_files(config)
    for name, source in config.sources.items():
        if name not in files:
            files[name] = source_kind(source).find_files(config, name)
    return files


def _tasks_of_source(
    config: RunConfig, name: str, files: SourceFiles, held_out: Register | None
) -> Iterator[Task]:
    """Yield one task for each group of neighbouring files."""
    # Files that are held out as a whole depend on no other source.
    yield from _tasks(config, files.validation_files, read_settings(config, name, True), None)
    settings = read_settings(config, name, is_validation=False)
    if held_out is not None:
        settings = replace(settings, held_out=held_out.digest)
    yield from _tasks(config, files.files, settings, held_out)


def _tasks(
    config: RunConfig,
    files: Sequence[InputFile],
    settings: ReadSettings,
    held_out: Register | None,
) -> Iterator[Task]:
    # A task is done again when a file of its group or one of the settings changes.
    for group in group_files(files):
        yield Task(
            name=f"{settings.source}~{group.key}",
            function=read_files,
            arguments={
                "documents_dir": data_folder(config).documents,
                "key": group.key,
                "files": group.files,
                "settings": settings,
                "held_out": None if held_out is None else held_out.path,
            },
            fingerprint=fingerprint(
                [versions.PREPARE, settings.inputs, [file.identity for file in group.files]]
            ),
            size=sum(file.size for file in group.files),
        )


def _placed_tasks(config: RunConfig, tasks: Sequence[Task]) -> list[Task]:
    """Return a source's tasks with the place of their files, which the number of shards decides.

    A task writes a shard at least, and of large files one for each `shard_text_bytes`; the text is
    taken to be as large as the files.
    """
    file_bytes = sum(task.size for task in tasks)
    shards = len(tasks) + int(file_bytes) // config.prepare.shard_text_bytes
    if not needs_parts(shards):
        return list(tasks)
    return [
        replace(task, arguments={**task.arguments, "in_parts": True}, outputs_in_parts=True)
        for task in tasks
    ]


def _add_up(results: list[ReadResult]) -> DocumentCounts:
    """Return the counts of all tasks of a source together."""
    documents: Counter[str] = Counter(dict.fromkeys(SPLITS, 0))
    text_bytes: Counter[str] = Counter(dict.fromkeys(SPLITS, 0))
    broken_files: dict[str, str] = {}
    for result in results:
        documents.update(result["documents"])
        text_bytes.update(result["text_bytes"])
        broken_files |= result["broken_files"]
    counts: DocumentCounts = {
        "documents": dict(documents),
        "text_bytes": dict(text_bytes),
        **add_up_losses(results),
        "crlf_line_ends": sum(result["crlf_line_ends"] for result in results),
        "smallest_hash": min((result["smallest_hash"] for result in results), default=1.0),
        "largest_hash": max((result["largest_hash"] for result in results), default=0.0),
        "broken_files": broken_files,
    }
    held_out_elsewhere = sum(result.get("held_out_elsewhere", 0) for result in results)
    if held_out_elsewhere:
        counts["held_out_elsewhere"] = held_out_elsewhere
    return counts


def _refuse_bad_sources(config: RunConfig, sources: dict[str, PreparedSource]) -> None:
    """Raise DataError naming sources with too many rejected rows, or without any document."""
    folder = data_folder(config).documents
    problems = []
    for name, counts in sources.items():
        documents = sum(counts["documents"].values())
        rejected = sum(counts["rejected"].values())
        rows = documents + rejected
        samples = rejected_rows(folder / name)
        source = config.sources[name]
        kind = source_kind(source)
        settings = UsableSettings(
            row_settings(source).text_field_in_words, kind.has_text_field, kind.takes_encoding
        )
        if rejected > config.prepare.max_bad_rows * rows:
            most = config.prepare.max_bad_rows
            problems.append(explain_too_many_rejects(name, counts, most, samples, settings))
        elif documents == 0 and source.has_documents:
            problems.append(explain_no_document(name, counts, samples, settings))
        problems += explain_unused_fields(name, counts)
    if problems:
        raise DataError("\n".join(problems))


def _warn_about_splits(config: RunConfig, sources: dict[str, PreparedSource]) -> None:
    """Warn about each source that has nothing to train on, or nothing held out.

    Sources that share `prepare.validation_fraction` get one line with the value that suits all.
    """
    shared: dict[str, HashRange] = {}
    for name, counts in sources.items():
        source = config.sources[name]
        if not source.has_documents:
            continue
        # The setting that divides this source.
        fraction = source.held_out_fraction(config.prepare.validation_fraction)
        setting = "prepare.validation_fraction"
        if source.validation_fraction is not None:
            setting = f"sources.{name}.validation_fraction"
        if counts["documents"]["train"] == 0 and fraction == 0:
            warn(
                f"source {name}: all of its {counts['documents']['validation']:,} documents are "
                "held out by name, here or in another source (validation_paths, "
                "prepare.validation), so there is nothing to train on. Name fewer."
            )
            continue

        # Sources that share the fraction are compared first: one value has to suit all.
        is_shared = source.validation_fraction is None and not source.validation_paths
        if is_shared and counts["documents"]["train"]:
            shared[name] = HashRange(
                documents=sum(counts["documents"].values()),
                smallest=counts["smallest_hash"],
                largest=counts["largest_hash"],
                is_held_out_nowhere=counts["documents"]["validation"] == 0,
            )
            continue

        # A fraction of its own.
        advice = empty_split_advice(
            counts["documents"],
            counts["smallest_hash"],
            counts["largest_hash"],
            SplitSetting(setting, fraction),
        )
        if advice:
            warn(f"source {name}: {advice}")

    # The fraction that several share.
    _warn_about_shared_split(shared, config.prepare.validation_fraction)


def _warn_about_shared_split(sources: dict[str, HashRange], fraction: float) -> None:
    """Warn once about the sources that share the fraction and of which nothing is held out."""
    setting = SplitSetting("prepare.validation_fraction", fraction)
    if len(sources) > 1:
        advice = shared_split_advice(sources, setting)
        if advice:
            warn(advice)
        return
    for name, source in sources.items():
        splits = {"train": source.documents, "validation": int(not source.is_held_out_nowhere)}
        advice = empty_split_advice(splits, source.smallest, source.largest, setting)
        if advice:
            warn(f"source {name}: {advice}")


def _headline(sources: dict[str, PreparedSource]) -> str:
    """Return the line that the stage ends with: documents made, held out, and rows rejected."""
    documents = {
        split: sum(counts["documents"][split] for counts in sources.values()) for split in SPLITS
    }
    sizes = {
        split: sum(counts["text_bytes"][split] for counts in sources.values()) for split in SPLITS
    }
    rejected: Counter[str] = Counter()
    for counts in sources.values():
        rejected.update(counts["rejected"])
    line = (
        f"{sum(documents.values()):,} documents, {human_bytes(sum(sizes.values()))} of text; "
        f"{documents['validation']:,} held out ({human_bytes(sizes['validation'])}); "
        f"{sum(rejected.values()):,} rows rejected"
    )
    if rejected:
        line += f" ({list_by_count(rejected)})"
    return line


def _closing_lines(config: RunConfig, sources: dict[str, PreparedSource]) -> list[str]:
    """Return a line for each kind of loss of each source."""
    lines: list[str] = []
    for name, counts in sources.items():
        lines += loss_lines(name, counts, row_settings(config.sources[name]).text_field_in_words)
        if counts["empty_files"]:
            lines.append(
                f"source {name}: {counts['empty_files']:,} of {counts['input_files']:,} files are "
                "empty"
            )
        if counts["crlf_line_ends"]:
            lines.append(
                f"source {name}: {counts['crlf_line_ends']:,} CRLF line ends became LF "
                f"(sources.{name}.line_ends)"
            )
        elsewhere = counts.get("held_out_elsewhere", 0)
        if elsewhere:
            lines.append(
                f"source {name}: {elsewhere:,} documents of its training files are held out because "
                "the same text is: listed, in validation_paths or in another source"
            )
        for file, why in counts["broken_files"].items():
            lines.append(
                f"source {name}: {file} {why}; the rows before the break are kept "
                "(prepare.on_broken_file)"
            )
    return lines
