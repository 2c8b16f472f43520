"""Content in another encoding, as UTF-8. Reads no file."""

import codecs
from collections.abc import Iterable, Iterator

SHOWN_BYTES = 8
"""Maximum number of bytes that do not fit which a message shows."""


class BytesDoNotFit(ValueError):
    """Content is not in the encoding that the run file names."""


def transcoded(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield content of another encoding as UTF-8, block by block.

    Raises BytesDoNotFit, with the place, for bytes that do not fit the encoding, and where the
    content ends within a character.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    position = 0
    try:
        for block in blocks:
            position += len(block)
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        # The decoder's object ends where the block does, and may begin with bytes that it kept.
        first = position - len(error.object) + error.start
        odd = error.object[error.start : min(error.end, error.start + SHOWN_BYTES)]
        raise BytesDoNotFit(_message(encoding, first, odd.hex(" "))) from None
    except UnicodeEncodeError:
        # UTF-7, and the escapes of Python, can write half a surrogate pair.
        raise BytesDoNotFit(_message(encoding, position, "half a surrogate pair")) from None


def _message(encoding: str, position: int, what: str) -> str:
    return (
        f"byte {position:,} of its content ({what}) does not fit the encoding {encoding}: correct "
        "the source's `encoding`, or the file"
    )
