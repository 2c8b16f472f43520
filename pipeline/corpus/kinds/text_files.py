"""The source kind `text`: files of text, plain or compressed."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.corpus.raw_files import content_blocks
from pipeline.corpus.rows import Reject, Row, excerpt_of, split_at, why_not_document
from pipeline.corpus.source_kind import RawFiles


class TextFiles(RawFiles):
    """Source kind in which a file is a document."""

    suffixes = ("",)
    # A file named test_x.py is code, not a split.
    names_splits = False
    takes_line_ends = True

    def rows(
        self, file: Path, text_field: str, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield one row with the whole content of the file."""
        content = next(split_at(content_blocks(file, self.why_unreadable, advance), None))
        yield _text_row(bytes(content))


def _text_row(content: bytes) -> Row | Reject:
    reason = why_not_document(content)
    if reason is not None:
        return Reject(reason, 0, excerpt_of(content))
    return Row(content, b"{}", 0)
