"""Bytes that annotations and verdicts take on disk. Pure arithmetic."""

from dataclasses import replace

from pipeline.config.curation.annotate_section import Annotate
from pipeline.config.curation.annotated_columns import annotated_columns
from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.redpajama_minhash import BANDS_AND_ROWS
from pipeline.planning.disk_use import DataSize
from pipeline.planning.rates import MEASURED_CORPUS, PlanRates, Rate

LINE_SIGNAL_BYTES = 0.0446
"""Bytes of one signal of lines (start, end, score of each line) for a byte of text.
Source of these figures: `pipeline/planning/README.md`, section Corpora."""
PARAGRAPH_BYTES = 0.1273
"""Bytes of `paragraph_hashes` for a byte of text."""
NUMBER_BYTES = 8
"""Bytes of a number or of the hash of a band, for a document."""
OTHER_BYTES = 30
"""Bytes of id, hash of the text, language and personal data, for a document."""


def with_annotation_rates(rates: PlanRates, config: RunConfig) -> PlanRates:
    """Return the rates with the size of the annotations that the run file asks for."""
    section = config.annotate
    if section is None:
        return rates
    columns = annotated_columns(section)
    lines = sum(kind == "scores" for kind in columns.values())
    per_text_byte = lines * LINE_SIGNAL_BYTES
    parts = [f"{lines} signals of lines"]
    if section.paragraphs:
        per_text_byte += PARAGRAPH_BYTES
        parts.append("paragraphs")
    numbers = sum(kind == "number" for kind in columns.values()) + _bands(section)
    source = f"{' and '.join(parts)} of {MEASURED_CORPUS}"
    return replace(
        rates,
        annotation_bytes_per_text_byte=Rate(per_text_byte, "assumed", source),
        annotation_bytes_per_document=Rate(
            numbers * NUMBER_BYTES + OTHER_BYTES, "assumed", f"{numbers} numbers of 8 bytes, hashes"
        ),
    )


def _bands(section: Annotate) -> int:
    if section.minhash is None:
        return 0
    if section.minhash.scheme == "own":
        return section.minhash.bands
    bands, _ = BANDS_AND_ROWS[section.minhash.similarity]
    return bands


def with_curation(data: DataSize, config: RunConfig, rates: PlanRates) -> DataSize:
    """Return a corpus with estimates of what the run file asks for and is not on disk."""
    annotations = data.annotation_bytes
    if config.annotate is not None and not annotations:
        annotations = data.text_bytes * rates.annotation_bytes_per_text_byte.value
        annotations += data.documents * rates.annotation_bytes_per_document.value
    verdicts = data.selection_bytes
    if config.select is not None and not verdicts:
        verdicts = data.documents * rates.selection_bytes_per_document.value
    return replace(data, annotation_bytes=annotations, selection_bytes=verdicts)
