"""The stage `annotate`: describe every document in data_dir/documents, one work item a shard.

Writes `data_dir/annotations/`, a Parquet file for each shard with a row for each document. Documents are
not changed, and nothing is judged here: `select` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.annotate_shard import AnnotatedShard, AskedParts, annotate_shard
from pipeline.corpus.annotating.part import AnnotationPart
from pipeline.corpus.annotating.parts import PARTS, parts_asked_for
from pipeline.corpus.annotating.published_duplicate import refuse_absent_lists
from pipeline.corpus.annotating.published_rows import PublishedSource, describe_published
from pipeline.corpus.decontaminating.contamination_part import Contamination
from pipeline.corpus.decontaminating.searched_tasks import describe_questions, short_question_lines
from pipeline.corpus.documents import SHARD_SUFFIX, check_files, shard_records
from pipeline.errors import ConfigError
from pipeline.logs import human_bytes
from pipeline.store import versions
from pipeline.store.artifacts import Result, read_manifest
from pipeline.store.counts import AnnotateCounts, AnnotatedSource, PrepareCounts
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.files import fingerprint, remove_unlisted
from pipeline.store.layout import data_folder
from pipeline.store.manifests.shard_places import logical_name, source_of
from pipeline.store.records import Json, ListedFile, Manifest, content_of
from pipeline.work.executor import run_tasks
from pipeline.work.placed_outputs import placed_files, settle_outputs
from pipeline.work.task import Task
from pipeline.work.workers import workers

LEFTOVERS = ("*/.*.partial", "*/*/.*.partial")
"""Files that a killed attempt may leave; their names are never used again."""
FILES = (f"*/*{SHARD_SUFFIX}", f"*/*/*{SHARD_SUFFIX}")


def annotation_inputs(config: RunConfig) -> dict[str, Json]:
    """Return what the annotations depend on besides documents and settings.

    A part that cannot be made here, for want of a package, is described as None.
    """
    described: dict[str, Json] = {}
    asked: list[AnnotationPart] = []
    for kind in PARTS:
        try:
            part = kind.asked_for(config)
        except ConfigError:
            described[f"part {kind.name}"] = None
            continue
        if part is not None:
            described[f"part {kind.name}"] = part.fingerprint()
            asked.append(part)
    return described | describe_questions(config) | describe_published(config, asked)


def check_parts(config: RunConfig) -> None:
    """Raise ConfigError where a part that the run file asks for, or that `select` reads, cannot be made.

    Questions of tasks are checked by `evaluation`, which knows the tasks' names.
    """
    parts_asked_for(config, [part for part in PARTS if part is not Contamination])
    refuse_absent_lists(config)


def annotate(config: RunConfig) -> Result[AnnotateCounts]:
    """Annotate every documents shard that is not annotated yet.

    Raises DataError naming each shard that is missing or damaged.
    """
    written: Manifest[PrepareCounts] | None = read_manifest(data_folder(config).documents_manifest)
    assert written is not None, "run_stage checks the inputs"
    shards = shard_records(written["files"])
    check_files(data_folder(config).documents, shards)
    parts = parts_asked_for(config)
    tasks = _tasks(config, shards, parts)

    # From here on the older annotations are no longer complete.
    folder = annotation_folder(config).path
    annotation_folder(config).manifest.unlink(missing_ok=True)
    remove_unlisted(folder, [], LEFTOVERS)
    settle_outputs(folder, tasks, (SHARD_SUFFIX,))
    with workers(config.executor) as crew:
        results: dict[str, AnnotatedShard] = run_tasks(tasks, folder, crew, "annotate")

    # Remove annotations of documents that are no longer part of the corpus.
    files = placed_files(tasks, {name: result["files"] for name, result in results.items()})
    remove_unlisted(folder, list(files), [*FILES, *LEFTOVERS])
    lines = [*_closing_lines(results), *short_question_lines(config)]
    return Result(_counts(config, results, parts), files, closing=lines)


def _tasks(
    config: RunConfig, shards: Mapping[str, ListedFile], parts: Sequence[AnnotationPart]
) -> list[Task]:
    """Return a task for each documents shard."""
    published = {
        source: PublishedSource.asked_for(config, source, parts)
        for source in config.sources_with_text
    }
    tasks: list[Task] = []
    for name, record in shards.items():
        asked = _asked(parts, published[source_of(name)], data_folder(config).documents / name)
        arguments = {
            "shard": data_folder(config).documents / name,
            "checksum": content_of(record),
            "output": annotation_folder(config).file(name),
            "name": logical_name(name),
            "asked": asked,
        }
        key = fingerprint([versions.ANNOTATE, content_of(record), asked.fingerprints])
        task_name = logical_name(name).removesuffix(SHARD_SUFFIX).replace("/", "~")
        task = Task(task_name, annotate_shard, arguments, key, record["bytes"])
        # Annotations lie as documents do.
        tasks.append(replace(task, outputs_in_parts=name != logical_name(name)))
    return tasks


def _asked(
    parts: Sequence[AnnotationPart], published: PublishedSource | None, shard: Path
) -> AskedParts:
    """Return what is computed of a shard, with the fingerprint of each part."""
    fingerprints: dict[str, str] = {}
    for part in parts:
        identity: Json = None
        if published is not None:
            identity = published.identity(part, shard)
        fingerprints[part.name] = part.fingerprint(identity)
    return AskedParts(parts, fingerprints, published)


def _closing_lines(results: Mapping[str, AnnotatedShard]) -> list[str]:
    """Return a line about published spans that do not fit their texts."""
    clamped = sum(result["clamped"] for result in results.values())
    if not clamped:
        return []
    return [f"published spans that reached beyond their text and were cut at its end: {clamped:,}"]


def _counts(
    config: RunConfig, results: Mapping[str, AnnotatedShard], parts: Sequence[AnnotationPart]
) -> AnnotateCounts:
    """Return what the manifest says of the stage: documents by source, columns by part."""
    sources: dict[str, AnnotatedSource] = {
        name: {"documents": 0, "text_bytes": 0} for name in config.sources_with_text
    }
    for result in results.values():
        for file in result["files"]:
            counts = sources[source_of(file)]
            counts["documents"] += result["documents"]
            counts["text_bytes"] += result["text_bytes"]
    documents = sum(counts["documents"] for counts in sources.values())
    text_bytes = sum(counts["text_bytes"] for counts in sources.values())
    columns = {part.name: [field.name for field in part.fields()] for part in parts}
    return {
        "headline": f"{documents:,} documents, {human_bytes(text_bytes)} of text; "
        f"{', '.join(columns)}",
        "sources": sources,
        "columns": columns,
    }
