"""A long text cut into documents at its blank lines. Reads no file."""

from collections.abc import Iterable, Iterator

from pipeline.corpus.rows import is_too_long

FIRST_GRAPHIC = 0x21
LAST_GRAPHIC = 0x7E
"""First and last byte of ASCII that prints something."""


def cut_at_blank_lines(
    lines: Iterable[bytes | bytearray], document_bytes: int
) -> Iterator[bytes | bytearray]:
    """Yield the parts of a text, which together are the text.

    `lines`: the text split at each LF. A part ends after a blank line, before one that is not, as
    soon as it has `document_bytes` bytes. So a part exceeds that size by at most one paragraph with
    its blank lines, only the last part is shorter, and none is blank unless the whole text is. A
    part that is too long for a document is cut a little after the maximum.
    """
    part = bytearray()
    has_text = False
    after_blank = False
    ends_line = b""
    for line in lines:
        # The LF between two lines belongs to the first of them.
        part += ends_line
        ends_line = b"\n"
        is_blank = _is_blank(line)
        if after_blank and not is_blank and has_text and len(part) >= document_bytes:
            yield part
            part = bytearray()
        if not is_too_long(part):
            part += line
        has_text = has_text or not is_blank
        after_blank = is_blank
    yield part


def _is_blank(line: bytes | bytearray) -> bool:
    """Return whether a line of UTF-8 has nothing but white space, which may be any of Unicode's."""
    if not line or line.isspace():
        return True
    if FIRST_GRAPHIC <= line[0] <= LAST_GRAPHIC:
        return False
    return line.decode(errors="replace").isspace()
