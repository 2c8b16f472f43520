"""The source kind `text`: files of text, plain or compressed."""

from collections.abc import Callable, Iterator

from pipeline.config.urls import RawPath
from pipeline.corpus.kinds.paragraphs import cut_at_blank_lines
from pipeline.corpus.raw_files import content_blocks
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row, reject_content, split_at, why_not_document
from pipeline.corpus.source_kind import RawFiles


class TextFiles(RawFiles):
    """Source kind in which a file is a document, or is cut into documents at blank lines."""

    suffixes = ("",)
    # A file named test_x.py is code, not a split.
    names_splits = False
    takes_line_ends = True
    takes_encoding = True
    takes_document_bytes = True

    def rows(
        self, file: RawPath, settings: RowSettings, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield one row with the whole content of the file, or its parts in order."""
        blocks = content_blocks(file, self.why_unreadable, advance, settings.encoding)
        if settings.document_bytes is None:
            parts = iter([next(split_at(blocks, None))])
        else:
            parts = cut_at_blank_lines(split_at(blocks, b"\n"), settings.document_bytes)
        for number, content in enumerate(parts):
            yield _text_row(bytes(content), number)


def _text_row(content: bytes, number: int) -> Row | Reject:
    reason = why_not_document(content)
    if reason is not None:
        return reject_content(reason, number, content)
    return Row(content, b"{}", number)
