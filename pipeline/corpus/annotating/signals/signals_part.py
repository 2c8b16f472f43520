"""The part `signals`: a column for each quality signal, by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import SPAN_SCORE, AnnotationPart, Value, list_of
from pipeline.corpus.annotating.signals import (
    c4,
    fineweb,
    gopher,
    published_signals,
    redpajama_documents,
    redpajama_lines,
    redpajama_repetitions,
)
from pipeline.corpus.annotating.signals.published_signals import (
    PUBLISHED_ONLY,
    PublishedMode,
    published_value,
    refuse_difference,
)
from pipeline.corpus.annotating.signals.redpajama_documents import stop_word_fraction
from pipeline.corpus.annotating.signals.signal import DocumentSignal, LineSignal
from pipeline.corpus.trees.spans import Spans
from pipeline.store.records import Json

MODULES = (
    redpajama_documents,
    redpajama_repetitions,
    redpajama_lines,
    gopher,
    c4,
    fineweb,
    published_signals,
)
"""The modules that define signals; `pipeline/config/curation/signal_names.py` lists the names."""
STOP_WORD_FRACTION = "rps_doc_stop_word_fraction"
"""The signal that depends on a setting."""


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
    published: PublishedMode = "recompute"

    name = "signals"

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if `annotate.signals` names any."""
        if config.annotate is None or not config.annotate.signal_columns:
            return None
        section = config.annotate
        return cls(section.signal_columns, section.stop_words, section.published_signals)

    @property
    def reads_published(self) -> frozenset[str]:
        """The published signals, unless all are computed."""
        if self.published == "recompute":
            return frozenset()
        return frozenset(("signals",))

    @property
    def published_mode(self) -> str:
        """How published signals are taken."""
        return self.published

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
        published: Mapping[str, Spans] = {}
        if document.published is not None and document.published.signals is not None:
            published = document.published.signals
        values: list[Value] = []
        for name, (is_of_lines, signal) in zip(self.names, self._functions, strict=True):
            spans = None
            if self.published != "recompute":
                spans = published.get(name)
            if spans is not None and self.published == "use":
                values.append(published_value(spans, is_of_lines))
                continue
            value: Value = signal(document)
            if is_of_lines:
                value = (document.line_starts, document.line_ends, value)
            if spans is not None and name not in PUBLISHED_ONLY:
                refuse_difference(document, name, value, spans)
            values.append(value)
        return values
