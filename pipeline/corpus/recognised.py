"""Files that hold no rows of the kind they are read as, recognised by their first bytes.

Reads no file itself.
"""

import json
import re
from codecs import BOM_UTF8

import orjson

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""Source: git-lfs, docs/spec.md."""
PARQUET = b"PAR1"
"""First bytes of a Parquet file."""
SIGNATURES = (
    (b"\x1f\x8b", ".gz"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
    (b"\xfd7zXZ\0", ".xz"),
    (b"BZh", ".bz2"),
)
"""First bytes of compressed data, and the suffix that a file needs to be decompressed."""
WIDE_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
"""Byte order marks. UTF-32 comes first, as one of its marks begins with a mark of UTF-16."""
ZEROS_OF_WIDE: dict[tuple[int, ...], str] = {
    (0, 1, 0, 1): "UTF-16LE",
    (1, 0, 1, 0): "UTF-16BE",
    (0, 1, 1, 1): "UTF-32LE",
    (1, 1, 1, 0): "UTF-32BE",
}
"""Which of the first four bytes are zero (1) -> encoding of JSON without a byte order mark. Source:
RFC 4627, section 3."""
WEB_PAGE = re.compile(rb"\s*<(!doctype html|html|\?xml)", re.IGNORECASE)
"""The beginning of a web page, or of XML."""
SPREAD_OBJECT = re.compile(rb'\s*\{[ \t]*\r?\n\s*["}]')
"""A JSON object whose first key stands on another line than its opening brace."""


def why_not_fetched(head: bytes) -> str | None:
    """Return why a file with these first bytes only stands for another file, and a remedy."""
    if head.removeprefix(BOM_UTF8).startswith(LFS_POINTER):
        return "is a git-lfs pointer and not the file itself: fetch it with `git lfs pull`"
    return None


def why_not_parquet(head: bytes) -> str | None:
    """Return why a file with these first bytes is not Parquet, and a remedy; None if it may be."""
    head = head.removeprefix(BOM_UTF8)
    if head.startswith(PARQUET):
        return None
    return why_not_fetched(head) or _other_format(head)


def why_not_plain(head: bytes) -> str | None:
    """Return why a file with these first bytes is no text in any encoding, and a remedy; else None."""
    if head.startswith(PARQUET):
        return "is Parquet: read it with `kind: parquet`, in a source of its own"
    return why_not_fetched(head) or _packed_format(head)


def why_not_lines(head: bytes) -> str | None:
    """Return why a file with these first bytes is not lines of text, and a remedy; else None."""
    head = head.removeprefix(BOM_UTF8)
    return why_not_plain(head) or _other_format(head)


def why_not_json_lines(head: bytes) -> str | None:
    """Return why a file with these first bytes is not JSON lines, and a remedy; else None."""
    return why_not_lines(head) or _other_json(head.removeprefix(BOM_UTF8))


def _packed_format(head: bytes) -> str | None:
    """Return how the first bytes show a file to be packed: compressed data and archives have marks."""
    for signature, suffix in SIGNATURES:
        if head.startswith(signature):
            return (
                f"holds {suffix} data, which its name does not say: decompress it, or let its name "
                f"end in {suffix}"
            )
    if head.startswith(b"PK\x03\x04") or head[257:262] == b"ustar":
        return "is an archive of files: unpack it, and set paths to the files that were in it"
    return None


def _other_format(head: bytes) -> str | None:
    """Return what the first bytes of a file show it to be instead of lines of UTF-8 text."""
    packed = _packed_format(head)
    if packed is not None:
        return packed

    # Text is UTF-8 unless its source says otherwise.
    encoding = _wide_encoding(head)
    if encoding is not None:
        return (
            f"is {encoding} and must be UTF-8: set the source's `encoding` to {encoding}, or convert "
            f"it with `iconv -f {encoding} -t UTF-8`"
        )

    # A failed download may leave zero bytes, or a page with the error.
    if head and not head.strip(b"\0"):
        return "begins with zero bytes, perhaps as its download was not finished: fetch it again"
    if WEB_PAGE.match(head):
        return (
            "is a web page or XML, perhaps in place of a file that could not be downloaded: fetch "
            "it again"
        )
    return None


def _wide_encoding(head: bytes) -> str | None:
    """Return the encoding of text in UTF-16 or UTF-32; None for other content."""
    for mark, encoding in WIDE_MARKS:
        if head.startswith(mark):
            return encoding
    return ZEROS_OF_WIDE.get(tuple(int(byte == 0) for byte in head[:4]))


def _other_json(head: bytes) -> str | None:
    """Return how JSON is laid out that does not stand one object a line, and a remedy."""
    convert = "one object a line is read: convert it"
    if _is_array(head.strip()):
        return f"is one JSON array; {convert} with `jq -c '.[]'`"
    if SPREAD_OBJECT.match(head) or _first_object_spans_lines(head):
        return f"holds JSON objects that are spread over several lines; {convert} with `jq -c .`"
    first, _, others = head.partition(b"\r")
    if others.strip() and b"\n" not in head and _is_json(first, dict):
        return f"ends its lines with a carriage return alone; {convert} with `tr '\\r' '\\n'`"
    return None


def _is_array(head: bytes) -> bool:
    """Return whether the whole content is one JSON array, and not several lines with an array each."""
    first_line = head.partition(b"\n")[0]
    return head.startswith(b"[") and (first_line == head or not _is_json(first_line, list))


def _first_object_spans_lines(head: bytes) -> bool:
    """Return whether the first JSON object is complete only on a later line."""
    first_line = head.lstrip().partition(b"\n")[0]
    if not first_line.startswith(b"{") or first_line == head.lstrip() or _is_json(first_line, dict):
        return False
    text = head.decode(errors="ignore").lstrip()
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return "\n" in text[:end]


def _is_json(line: bytes, kind: type) -> bool:
    """Return whether a line is JSON that Python reads as `kind`."""
    try:
        return isinstance(orjson.loads(line), kind)
    except orjson.JSONDecodeError:
        return False
