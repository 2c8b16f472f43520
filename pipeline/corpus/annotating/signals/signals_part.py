"""The part `signals`: a column for each quality signal, by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import AnnotationPart, Value, list_of
from pipeline.corpus.annotating.signals import (
    c4,
    fineweb,
    gopher,
    redpajama_documents,
    redpajama_lines,
    redpajama_repetitions,
)
from pipeline.corpus.annotating.signals.redpajama_documents import stop_word_fraction
from pipeline.corpus.annotating.signals.signal import DocumentSignal, LineSignal
from pipeline.store.records import Json

MODULES = (redpajama_documents, redpajama_repetitions, redpajama_lines, gopher, c4, fineweb)
"""The modules that define signals; `pipeline/config/curation/signal_names.py` lists the names."""
STOP_WORD_FRACTION = "rps_doc_stop_word_fraction"
"""The signal that depends on a setting."""
SPAN_SCORE = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float64())])


def document_signals() -> Mapping[str, DocumentSignal]:
    """Return the signals of documents that depend on no setting, by name."""
    return {name: signal for each in MODULES for name, signal in each.SIGNALS.of_documents.items()}


def line_signals() -> Mapping[str, LineSignal]:
    """Return the signals of lines, by name."""
    return {name: signal for each in MODULES for name, signal in each.SIGNALS.of_lines.items()}


@dataclass(frozen=True)
class QualitySignals(AnnotationPart):
    """Signals of documents are numbers, null where undefined; those of lines are lists of spans."""

    names: tuple[str, ...]
    stop_words: str

    name = "signals"

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if `annotate.signals` names any."""
        if config.annotate is None or not config.annotate.signal_columns:
            return None
        return cls(config.annotate.signal_columns, config.annotate.stop_words)

    def settings(self) -> Json:
        """Return the language of the stop words, where a signal depends on it."""
        if STOP_WORD_FRACTION not in self.names:
            return None
        return self.stop_words

    def fields(self) -> Sequence[pa.Field]:
        """Return a column for each signal."""
        of_lines = line_signals()
        return [
            pa.field(name, list_of(SPAN_SCORE) if name in of_lines else pa.float64())
            for name in self.names
        ]

    @cached_property
    def _functions(self) -> Sequence[tuple[bool, DocumentSignal | LineSignal]]:
        """Whether each signal is one of lines, and its function."""
        of_lines = line_signals()
        of_documents = {
            **document_signals(),
            STOP_WORD_FRACTION: stop_word_fraction(self.stop_words),
        }
        return [
            (name in of_lines, of_lines[name] if name in of_lines else of_documents[name])
            for name in self.names
        ]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return a number for each signal of the document, starts, ends and scores for one of lines."""
        values: list[Value] = []
        for is_of_lines, signal in self._functions:
            value: Value = signal(document)
            if is_of_lines:
                value = (document.line_starts, document.line_ends, value)
            values.append(value)
        return values
