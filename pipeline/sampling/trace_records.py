"""The types of what `pipeline trace` computes, prints, and leaves in the file of a rollback."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from pipeline.store.records import Json


class DocumentOrigin(TypedDict):
    """Where a document came from; each entry is None for token files that were made elsewhere."""

    meta: Json
    """Fields of the document in the input file other than the text."""
    origin_file: str | None
    origin_row: int | None


class TracedSpan(DocumentOrigin):
    """The part of a document that a row reads."""

    id: str
    """`source/shard/row`."""
    shard: str
    row: int
    """Row of the document in the shard."""
    first: int
    """First token of the part, counted within the document."""
    end: int
    """Token after the last one of the part, counted within the document."""
    tokens: int
    """Tokens of the whole document."""
    excerpt: str
    """Text of the first tokens of the part."""


class TracedRow(TypedDict):
    """One row of a step's global batch."""

    row: int
    """Row of the global batch."""
    rank: int | None
    """Data rank that reads the row; None where the step has not been started."""
    sample: int
    source: str
    epoch: int
    sequence: int
    """Row of the source."""
    documents: list[TracedSpan]


class ComparedChecksum(TypedDict):
    """The data checksum of a step, computed again."""

    checksum: str
    """Checksum of the tokens that are on disk now, in hexadecimal."""
    logged: str | None
    """Checksum that training logged."""
    same: bool | None
    """None where training logged no checksum."""


class TracedStep(TypedDict):
    """The documents of a step."""

    run: str
    """The run's folder."""
    step: int
    done: bool
    """Whether the run has completed the step."""
    ranks: int | None
    """Ranks that trained the step; None where it has not been started."""
    row_count: int
    """Rows that were asked for, of which `rows` may be the first few."""
    rows: list[TracedRow]
    data: ComparedChecksum | None
    """None where the step is not done."""


class TimeSeen(TypedDict):
    """One time that a run reads a document."""

    step: int
    row: int
    """Row of the global batch."""
    epoch: int
    sequence: int
    """Row of the source."""
    spans: list[tuple[int, int]]
    """Ranges `[first, end)` of the document's tokens that the row reads."""
    done: bool
    """Whether the run has completed the step."""


class DocumentUse(TypedDict):
    """When a run reads a document."""

    held_out: bool
    """Whether the document is validation text."""
    tokens: int | None
    """None for validation text."""
    times: list[TimeSeen]


class TracedDocument(DocumentOrigin, DocumentUse):
    """A document, and when the run reads it."""

    id: str
    """`source/shard/row`."""
    removed: NotRequired[list[str]]
    """Reasons for which `select` has removed the document; missing where it is read."""


class TracedDocuments(TypedDict):
    """The documents that have one id, original id or url."""

    run: str
    """The run's folder."""
    completed_steps: int
    documents: list[TracedDocument]
