"""Values of the signals of documents by source, for looking at them and at what rules would cut.

Reads annotations; of a large source only some shards, the same ones each time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import xxhash

from pipeline.config.curation.rules import RuleComparison, parse_comparison
from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.annotation_file import ID, read_annotations
from pipeline.corpus.documents import SHARD_SUFFIX, listed_shards
from pipeline.corpus.selecting.rule_values import compared_values
from pipeline.errors import DataError, UserError
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import AnnotateCounts
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.layout import data_folder
from pipeline.store.manifests.shard_places import logical_name, source_of
from pipeline.store.records import ListedFile, Manifest, content_of

MOST_DOCUMENTS = 20_000
"""Documents of a source after which no further shard is read."""


@dataclass(frozen=True)
class SourceValues:
    """Values of some documents of a source."""

    source: str
    documents: int
    """Number of all documents of the source."""
    ids: tuple[str, ...]
    """Ids of the documents that were read."""
    values: dict[str, np.ndarray]
    """Signal -> value of each document read, `(documents read,) float64`, nan where undefined."""


@dataclass(frozen=True)
class Cut:
    """A rule on a signal: what it asks, as the run file has it."""

    rule: str
    comparison: RuleComparison


def annotated_files(config: RunConfig) -> tuple[dict[str, ListedFile], AnnotateCounts]:
    """Return the files of annotations by logical name, and the counts of the stage.

    Raises DataError where `annotate` has not finished.
    """
    folder = annotation_folder(config)
    manifest: Manifest[AnnotateCounts] | None = read_manifest(folder.manifest)
    if manifest is None:
        raise DataError(
            f"{folder.path}: holds no annotations. Add the section `annotate` to the run file, then "
            "run `pipeline annotate`."
        )
    return manifest["files"], manifest["counts"]


def signal_values(
    config: RunConfig, source: str | None = None, signal: str | None = None
) -> list[SourceValues]:
    """Return the values of all signals, or of one, by source; of one source if it is named.

    A signal of lines counts as the mean over the lines of a document. Rules of `select` may add sums
    and counts. Raises UserError for a source or signal that does not exist, DataError where there are
    no annotations or they are damaged.
    """
    files, counts = annotated_files(config)
    sources = list(counts["sources"])
    if source is not None:
        if source not in sources:
            raise UserError(f"--source {source}: there are {', '.join(sources)}")
        sources = [source]
    return [_of_source(config, name, files, counts, signal) for name in sources]


def _of_source(
    config: RunConfig,
    source: str,
    files: dict[str, ListedFile],
    counts: AnnotateCounts,
    signal: str | None,
) -> SourceValues:
    """Read shards of a source until there are MOST_DOCUMENTS."""
    shards = listed_shards(data_folder(config).documents)
    checksums = {logical_name(name): content_of(record) for name, record in shards.items()}
    names = [name for name in files if name.endswith(SHARD_SUFFIX) and source_of(name) == source]
    names.sort(key=lambda name: xxhash.xxh3_64_intdigest(logical_name(name).encode()))
    ids: list[str] = []
    found: dict[str, list[np.ndarray]] = {}
    for name in names:
        if len(ids) >= MOST_DOCUMENTS:
            break
        checksum = checksums.get(logical_name(name), "")
        path = annotation_folder(config).path / name
        measured: list[RuleComparison] | None = None
        for table in read_annotations(path, checksum):
            if measured is None:
                measured = [*_measures(config, table.schema, signal)]
            ids += table[ID.name].to_pylist()
            for each in measured:
                column = table[each.column].combine_chunks()
                found.setdefault(each.left, []).append(compared_values(each, column))
    values = {name: np.concatenate(parts) for name, parts in found.items()}
    return SourceValues(source, counts["sources"][source]["documents"], tuple(ids), values)


def _measures(config: RunConfig, schema: pa.Schema, signal: str | None) -> Iterator[RuleComparison]:
    """Yield what is measured: each number of a document, the mean of lines, and what rules ask.

    Raises UserError for a signal that does not exist.
    """
    measures: dict[str, RuleComparison] = {}
    for field in schema:
        each = _measure_of(field)
        if each is not None:
            measures[each.left] = each
    for cut in cuts(config):
        if cut.comparison.column in schema.names:
            measures.setdefault(cut.comparison.left, cut.comparison)
    if signal is None:
        yield from measures.values()
        return
    chosen = [each for name, each in measures.items() if signal in (name, each.column)]
    if not chosen:
        names = [*measures, *(each.column for each in measures.values())]
        close = get_close_matches(signal, dict.fromkeys(names), 3)
        hint = f"did you mean {' or '.join(close)}?"
        if not close:
            hint = f"there are {', '.join(measures)}"
        raise UserError(
            f"--signal {signal}: the annotations have no numeric signal of this name; {hint}"
        )
    yield from chosen


def _measure_of(field: pa.Field) -> RuleComparison | None:
    """Return what is looked at of a column; None where it holds no numbers."""
    if pa.types.is_floating(field.type):
        return RuleComparison(field.name, None, ">", 0.0)
    is_list = pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type)
    if is_list and field.type.value_type.get_field_index("score") >= 0:
        return RuleComparison(field.name, "mean", ">", 0.0)
    return None


def cuts(config: RunConfig) -> list[Cut]:
    """Return the rules of `select` that compare numbers, in their order."""
    if config.select is None:
        return []
    found = [Cut(name, parse_comparison(text)) for name, text in config.select.rules.items()]
    return [cut for cut in found if not isinstance(cut.comparison.value, str)]


def quantiles(values: np.ndarray, at: Sequence[float]) -> list[float | None]:
    """Return the smallest value that a share `at` of the documents does not exceed, for each share.

    Each is the value of some document; undefined ones do not count. None where all are undefined.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return [None] * len(at)
    return [float(value) for value in np.quantile(defined, list(at), method="inverted_cdf")]


def documents_at(found: SourceValues, signal: str, share: float, count: int) -> list[int]:
    """Return the places of the `count` documents around a quantile, by ascending value."""
    values = found.values[signal]
    defined = np.flatnonzero(~np.isnan(values))
    order = defined[np.argsort(values[defined], kind="stable")]
    middle = max(0, int(np.ceil(share * len(order))) - 1)
    first = max(0, min(middle - (count - 1) // 2, len(order) - count))
    return order[first : first + count].tolist()
