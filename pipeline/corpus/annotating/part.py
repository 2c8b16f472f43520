"""What a part of the annotations is: some columns, and a function from a document to their values.

A part has a fingerprint of its own. So a setting that changes one part leaves the columns of the others
as they are. Reads and writes no file.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self, TypeAlias

import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.store.files import fingerprint
from pipeline.store.records import Json

Value: TypeAlias = Any
"""A value of one column and row, as `columns.column_of` takes it: a float, text or bytes, an array for a
list of numbers, a tuple of arrays for a list of structs (one for each of their fields); None is null."""

SPAN_SCORE = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float64())])
"""A part of a text, in characters, with its score."""


class AnnotationPart(ABC):
    """A part as a run file asks for it. Instances are sent to workers."""

    name: ClassVar[str]
    """Name of the part in the files' metadata."""
    version: ClassVar[int] = 1
    """To be raised when the same settings and documents give other values."""

    @property
    def reads_published(self) -> frozenset[str]:
        """What the part takes of a published corpus: some of `published_record.PARTS`."""
        return frozenset()

    @property
    def published_mode(self) -> str:
        """How published values are taken, where that is a setting of the part."""
        return ""

    @classmethod
    @abstractmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part with its settings, or None where the run file does not ask for it.

        Raises ConfigError where it cannot be made, for example without an optional package.
        """

    @abstractmethod
    def settings(self) -> Json:
        """Return everything besides the documents that decides the values."""

    @abstractmethod
    def fields(self) -> Sequence[pa.Field]:
        """Return the columns of the part."""

    @abstractmethod
    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return the value of each column for one document."""

    def fingerprint(self, published: Json = None) -> str:
        """Return a hash of everything besides the documents that decides the columns.

        `published`: identifies the published files that are read; None where there are none.
        """
        columns = [str(field) for field in self.fields()]
        decides = [self.name, self.version, self.settings(), columns]
        if published is not None:
            decides.append(published)
        return fingerprint(decides)


def list_of(kind: pa.DataType) -> pa.ListType:
    """Return the type of a list, with the name that Parquet gives its elements."""
    return pa.list_(pa.field("element", kind))
