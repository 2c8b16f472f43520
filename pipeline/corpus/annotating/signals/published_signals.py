"""Signals that a corpus has published: taken, or compared with what is computed.

Some need models, lists or earlier stages of their makers, and cannot be computed here: PUBLISHED_ONLY.
Source: the data card of togethercomputer/RedPajama-Data-V2. Reads and writes no file.
"""

from typing import Literal, TypeAlias

from pipeline.config.curation.signal_names import SIGNAL_SETS
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import Value
from pipeline.corpus.annotating.signals.signal import PRECISION, DocumentSignal, Signals
from pipeline.corpus.trees.spans import SpanColumns, Spans
from pipeline.errors import DataError

PublishedMode: TypeAlias = Literal["use", "recompute", "check"]
PUBLISHED_ONLY = frozenset(SIGNAL_SETS["redpajama-v2-published"])
OF_RAW_WORDS = frozenset(
    (
        "rps_doc_stop_word_fraction",
        "rps_doc_symbol_to_word_ratio",
        "rps_doc_frac_no_alph_words",
        "rps_doc_frac_all_caps_words",
    )
)
"""Signals that depend on what NLTK takes for a word character, which only within ASCII is what `re`
takes for one."""
TOLERANCE = 1.5 * 10**-PRECISION
"""Largest difference of two values that are rounded alike."""


def _unpublished(document: DocumentText) -> float | None:
    """Return that the value is undefined: it is known only where it was published."""
    return None


_FUNCTIONS: dict[str, DocumentSignal] = dict.fromkeys(PUBLISHED_ONLY, _unpublished)
SIGNALS = Signals(_FUNCTIONS, {})


def published_value(spans: Spans, is_of_lines: bool) -> Value:
    """Return a published signal in the form of a computed one: the number of its one span, or the
    starts, ends and scores of all."""
    if is_of_lines:
        return spans.columns()
    return spans.score(0) if spans else None


def refuse_difference(document: DocumentText, name: str, computed: Value, spans: Spans) -> None:
    """Raise DataError where a published signal differs from the computed one."""
    if name in OF_RAW_WORDS and not document.text.isascii():
        return
    is_of_lines = isinstance(computed, tuple)
    values = _rows(computed)
    published = _rows(published_value(spans, is_of_lines))
    for place, (own, other) in enumerate(zip(values, published, strict=False)):
        if not _is_equal(own, other):
            line = f" of line {place}" if is_of_lines else ""
            raise _difference(document, f"{name}{line}", own, other)
    if len(values) != len(published):
        raise _difference(document, f"{name}, number of lines", len(values), len(published))


def _rows(value: Value) -> list[Value]:
    """Return the spans of a signal of lines, or the value of one of documents."""
    if isinstance(value, tuple):
        return [*Spans(SpanColumns(*value))]
    return [value]


def _is_equal(own: Value, other: Value) -> bool:
    if isinstance(own, tuple):
        return all(map(_is_equal, own, other))
    if own is None or other is None:
        return own is other
    return abs(own - other) <= TOLERANCE


def _difference(document: DocumentText, what: str, own: Value, other: Value) -> DataError:
    return DataError(
        f"annotate.published_signals = check: {document.identity} has {what} = {other} in the published "
        f"signals, and {own} is computed. The text has changed, or its language has other stop words "
        "(annotate.stop_words); set published_signals to use or recompute."
    )
