"""Types of the counts that `select` writes into its manifest, and their order. Reads and writes nothing."""

from typing import TypedDict

from pipeline.store.counts import Counts


class ReasonCounts(TypedDict):
    """Documents that were removed for one reason, their first one."""

    documents: int
    text_bytes: int


class SplitVerdicts(TypedDict):
    """Verdicts on the documents of one split of one source."""

    documents: int
    """All documents."""
    text_bytes: int
    """Bytes of text of all documents."""
    kept: int
    """Documents that are kept."""
    kept_bytes: int
    """Bytes of text of the documents that are kept, before parts are replaced."""
    cut: int
    """Documents that are kept and have parts replaced."""
    removed: dict[str, ReasonCounts]
    """First reason -> documents."""


class SelectCounts(Counts):
    """Counts of the stage `select`."""

    sources: dict[str, dict[str, SplitVerdicts]]
    """Source -> split -> verdicts."""
    clamped_spans: int
    """Parts to replace that lay partly or wholly behind the end of their text."""


def by_frequency(counts: SplitVerdicts) -> list[tuple[str, ReasonCounts]]:
    """Return the reasons with what they remove, the most frequent first."""
    return sorted(counts["removed"].items(), key=lambda item: (-item[1]["documents"], item[0]))
