"""The plan of a run file that describes no training: text, disk and core-hours of its corpus.

Before `prepare`, text is estimated from the sizes of the raw files; afterwards everything that a
finished stage has counted is taken from its manifest. Reads manifests.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from pipeline.config.hardware import read_hardware
from pipeline.config.run_config import RunConfig
from pipeline.corpus.file_search import InputFile, SourceFiles
from pipeline.errors import DataError
from pipeline.planning.curation_size import with_annotation_rates, with_curation
from pipeline.planning.data_stages import DataPlan, data_core_hours, with_tokenizer_rates
from pipeline.planning.disk_use import DataSize
from pipeline.planning.rates import MEASURED_CORPUS, PlanRates, Rate, assumed_rates
from pipeline.planning.run_setting import bytes_of, measured_data
from pipeline.store.artifacts import stage_states
from pipeline.store.counts import PrepareCounts
from pipeline.store.curation.verdict_counts import SelectCounts
from pipeline.store.layout import data_folder
from pipeline.store.records import Manifest
from pipeline.store.stages import STAGES
from pipeline.tokens.indexed_dataset import token_dtype

TEXT_BYTES_PER_RAW_BYTE = {
    "": 0.96,
    ".gz": 3.8,
    ".zst": 3.8,
    ".bz2": 4.8,
    ".xz": 5.2,
    ".parquet": 2.7,
}
"""Bytes of text in a byte of a raw file, by the last suffix of its name; Parquet by the
documents' own files. Source: `pipeline/planning/README.md`, section Corpora."""
SAME_COMPRESSION = {".zstd": ".zst"}
LARGEST_VOCABULARY = 2**17
"""Vocabulary that is assumed of an existing tokenizer: its ids then take four bytes."""

RATE_OF_STAGE = {
    "prepare": "prepare_bytes_per_core_second",
    "annotate": "annotate_bytes_per_core_second",
    "select": "select_bytes_per_core_second",
    "train-tokenizer": "learn_bytes_per_core_second",
    "tokenize": "tokenize_bytes_per_core_second",
    "pack": "pack_tokens_per_core_second",
}
"""Stage -> field of `PlanRates` that gives its core-hours."""


FindFiles: TypeAlias = Callable[[RunConfig], Mapping[str, SourceFiles]]


@dataclass(frozen=True)
class RawSource:
    """One source of text, or of existing ids."""

    files: int
    bytes: int
    """Size of the raw files."""
    text_bytes: float
    """As prepared, or estimated."""
    documents: float


@dataclass(frozen=True)
class CorpusPlan:
    """What a corpus costs."""

    sources: Mapping[str, RawSource]
    without_files: Sequence[str]
    """Sources whose files `prepare` writes itself: nothing is known of them before."""
    finished: Sequence[str]
    """Stages whose figures are from their manifests."""
    data: DataSize
    hours: DataPlan
    rates: Mapping[str, Rate]
    """What the figures rest on, with units in the names."""


def plan_corpus(config: RunConfig, find_files: FindFiles, hardware_name: str) -> CorpusPlan:
    """Return the plan of a corpus. Raises ConfigError for unknown hardware, and as `find_files`.

    `find_files` returns the raw files of each source. Once documents are prepared, raw files may be
    moved away: what it raises then counts for nothing. `hardware_name` gives rates of a full plan
    that no figure here depends on.
    """
    # The rates of the run file's parts and kind of tokenizer.
    rates = assumed_rates(read_hardware(hardware_name), hardware_name, overlaps=False)
    rates = with_annotation_rates(rates, config)
    if config.has("tokenizer"):
        rates = with_tokenizer_rates(rates, config)

    # What is there: raw files, and what stages have made of them.
    made = _finished_manifests(config)
    found: dict[str, Sequence[InputFile]] = {}
    try:
        found = {name: each.files for name, each in find_files(config).items()}
    except DataError:
        if "prepare" not in made:
            raise
    if "prepare" in made:
        found = {name: found.get(name, ()) for name in config.sources}

    # What each source and all together come to.
    sources = {name: _source(config, name, each, made, rates) for name, each in found.items()}
    missing = [name for name in config.sources_with_text if name not in found]
    data = _data_size(config, sources, made, rates)
    hours = data_core_hours(config, data, rates)
    return CorpusPlan(
        sources=sources,
        without_files=missing,
        finished=list(made),
        data=data,
        hours=hours,
        rates=_rates_by_name(config, found, data, hours, rates, made),
    )


def _finished_manifests(config: RunConfig) -> dict[str, Manifest[Any]]:
    """Return the manifests of the stages whose output is that of the run file."""
    table = {stage.name: stage for stage in STAGES}
    states = stage_states(table, config)
    made: dict[str, Manifest[Any]] = {}
    for name, state in states.items():
        if table[name].shared and state.kind == "done" and state.manifest is not None:
            made[name] = cast("Manifest[Any]", state.manifest)
    return made


def _source(
    config: RunConfig,
    name: str,
    files: Sequence[InputFile],
    made: Mapping[str, Manifest[Any]],
    rates: PlanRates,
) -> RawSource:
    size = sum(file.size for file in files)
    if name not in config.sources_with_text:
        return RawSource(len(files), size, 0.0, 0.0)
    prepared: Manifest[PrepareCounts] | None = made.get("prepare")
    if prepared is not None:
        counts = prepared["counts"]["sources"][name]
        text = float(sum(counts["text_bytes"].values()))
        return RawSource(len(files), size, text, float(sum(counts["documents"].values())))
    text = sum(file.size * TEXT_BYTES_PER_RAW_BYTE[_compression(file)] for file in files)
    return RawSource(len(files), size, text, text / rates.text_bytes_per_document.value)


def _compression(file: InputFile) -> str:
    """Return the suffix in the table by which the text in a file is estimated."""
    suffix = "." + file.name.lower().rpartition(".")[2]
    suffix = SAME_COMPRESSION.get(suffix, suffix)
    return suffix if suffix in TEXT_BYTES_PER_RAW_BYTE else ""


def _data_size(
    config: RunConfig,
    sources: Mapping[str, RawSource],
    made: Mapping[str, Manifest[Any]],
    rates: PlanRates,
) -> DataSize:
    """Return the size of the corpus: of each finished stage as it is, of the others estimated."""
    if "tokenize" in made:
        measured = measured_data(data_folder(config))
        assert measured is not None, "the stage has finished"
        return with_curation(measured, config, rates)

    # All text, and what is left of it.
    text = sum(each.text_bytes for each in sources.values())
    kept = text
    if "select" in made:
        kept = float(_kept_bytes(made["select"]))
    document_bytes = text * rates.document_bytes_per_text_byte.value
    if "prepare" in made:
        document_bytes = float(bytes_of(made["prepare"]))

    # The tokens of what is left.
    tokens = 0.0
    token_bytes = 0.0
    if config.has("tokenizer"):
        tokens = kept / rates.text_bytes_per_token.value
        width = token_dtype(config.tokenizer.vocab_size or LARGEST_VOCABULARY).itemsize
        token_bytes = tokens * width * (1 + rates.token_extra_share.value)
    size = DataSize(
        tokens=tokens,
        text_tokens=tokens,
        text_bytes=text,
        kept_text_bytes=kept,
        document_bytes=document_bytes,
        token_bytes=token_bytes,
        basis=_basis(config, text, made),
        documents=sum(each.documents for each in sources.values()),
        annotation_bytes=float(bytes_of(made["annotate"])) if "annotate" in made else 0.0,
        selection_bytes=float(bytes_of(made["select"])) if "select" in made else 0.0,
    )
    return with_curation(size, config, rates)


def _kept_bytes(manifest: Manifest[SelectCounts]) -> int:
    sources = manifest["counts"]["sources"].values()
    return sum(counts["kept_bytes"] for splits in sources for counts in splits.values())


def _basis(config: RunConfig, text: float, made: Mapping[str, Manifest[Any]]) -> Rate:
    """Return what the size of the text rests on; the value is the bytes of it."""
    if "prepare" in made:
        return Rate(text, "measured", str(data_folder(config).documents))
    return Rate(text, "assumed", "sizes of the raw files")


def _rates_by_name(
    config: RunConfig,
    files: Mapping[str, Sequence[InputFile]],
    data: DataSize,
    hours: DataPlan,
    rates: PlanRates,
    made: Mapping[str, Manifest[Any]],
) -> dict[str, Rate]:
    """Return what the figures rest on, with units in the names: nothing that is measured."""
    named = {"bytes of text": data.basis}
    fields: list[str] = []
    if "prepare" not in made:
        with_text = [files[name] for name in config.sources_with_text if name in files]
        suffixes = {_compression(file) for found in with_text for file in found}
        for suffix in sorted(suffixes):
            name = f"text bytes per raw byte, {suffix or 'plain'}"
            rate = TEXT_BYTES_PER_RAW_BYTE[suffix]
            named[name] = Rate(rate, "assumed", MEASURED_CORPUS)
        fields += ["text_bytes_per_document", "document_bytes_per_text_byte"]
    if config.annotate is not None and "annotate" not in made:
        fields += ["annotation_bytes_per_text_byte", "annotation_bytes_per_document"]
    if config.select is not None and "select" not in made:
        fields.append("selection_bytes_per_document")
    if data.tokens and "tokenize" not in made:
        fields += ["text_bytes_per_token", "token_extra_share"]
    fields += [RATE_OF_STAGE[stage] for stage in hours.of_stages()]
    return named | {name.replace("_", " "): getattr(rates, name) for name in fields}
