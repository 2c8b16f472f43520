"""The layout of the Dolma toolkit: `documents`, and any folders of `attributes` aligned with it.

Row n of `attributes/NAME/a/b.jsonl.gz` holds `{"id": …, "attributes": {KEY: [[start, end, score]]}}`
about row n of `documents/a/b.jsonl.gz`. Source: `docs/data-format.md` of allenai/dolma.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from pipeline.config.source_section import Source
from pipeline.config.urls import RawPath
from pipeline.corpus.trees.published_record import (
    PublishedRecord,
    SourceDocument,
    wrong_document,
)
from pipeline.corpus.trees.span_rows import SpanRows
from pipeline.corpus.trees.spans import Spans
from pipeline.corpus.trees.tree_layout import (
    SideFiles,
    TreeFolder,
    TreeLayout,
    has_folder,
    names_in,
    path_below,
)
from pipeline.errors import DataError

DOCUMENTS = "documents"
ATTRIBUTES = "attributes"


class Dolma(TreeLayout):
    """Documents in `documents`, described row by row in each folder of `attributes`."""

    name = "dolma"
    looks_like = "documents/ with attributes/NAME/ beside it"
    has_side_files = True

    def evidence(self, root: RawPath) -> str:
        if has_folder(root, DOCUMENTS) and has_folder(root, ATTRIBUTES):
            return f"{DOCUMENTS}/, {ATTRIBUTES}/"
        return ""

    def fits(self, root: RawPath) -> bool:
        """Return whether there are documents: a tree that nothing has tagged has no attributes."""
        return has_folder(root, DOCUMENTS)

    def folders(self, root: RawPath, source: Source) -> Sequence[TreeFolder]:
        return [TreeFolder(DOCUMENTS)]

    def note(self, root: RawPath, taken: Sequence[PurePosixPath]) -> str:
        names = names_in(path_below(root, ATTRIBUTES)).folders
        return f"{len(taken):,} files of documents/; attributes: {', '.join(names) or 'none'}"

    def side_folders(self, root: RawPath) -> Mapping[str, str]:
        names = names_in(path_below(root, ATTRIBUTES)).folders
        return {f"{ATTRIBUTES}/{name}": ATTRIBUTES for name in names}

    def side_file(self, folder: str, below: PurePosixPath) -> str | None:
        return str(PurePosixPath(folder, *below.parts[1:]))

    def described(self, below: PurePosixPath, files: Mapping[str, RawPath]) -> SideFiles:
        return _Attributes(list(files.values()))


class _Attributes:
    """The attribute files of one file of documents."""

    def __init__(self, files: Sequence[RawPath]) -> None:
        self._files = [SpanRows(file, ATTRIBUTES) for file in files]

    def record(self, document: SourceDocument) -> PublishedRecord:
        attributes: dict[str, Spans] = {}
        clamped = 0
        for rows in self._files:
            row = rows.row(document.row)
            _compare_id(rows.file, row.fields.get("id"), document)
            named, cut = row.spans(document)
            clamped += cut
            repeated = sorted(attributes.keys() & named.keys())
            if repeated:
                raise DataError(
                    f"{rows.file}: has the attribute {repeated[0]}, which another folder of "
                    f"{ATTRIBUTES}/ has, too. Move one of the folders out of the tree."
                )
            attributes |= named
        return PublishedRecord(attributes=attributes, clamped=clamped)


def _compare_id(file: RawPath, published: object, document: SourceDocument) -> None:
    expected = document.meta.get("id")
    if expected is not None and published != expected:
        raise wrong_document(
            file, document.row, f"has the id {published}, the document has {expected}"
        )
