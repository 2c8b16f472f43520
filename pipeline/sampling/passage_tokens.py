"""The tokens of a document that spell a passage of its text.

Reads the token files of the document's shard.
"""

import numpy as np

from pipeline.sampling.traced_run import TracedRun


def passage_tokens(
    run: TracedRun,
    source: str,
    document: tuple[str, int],
    passage: tuple[int, int],
    document_bytes: int,
) -> tuple[int, int] | None:
    """Return the tokens `[first, end)` of a document, its first being 0, that spell a passage.

    `document`: shard and row. `passage`: bytes `[start, end)` of its text, which has
    `document_bytes` in UTF-8. All tokens of the document, where they do not spell the text as it is
    (a tokenizer that changes text). None where the run's tokens do not have the document.
    """
    index = run.data.order.names.index(source)
    tokens = run.documents[index].find(*document)
    if tokens is None:
        return None
    first, end = tokens

    # The last token is the end of the document, which spells nothing.
    ids = run.data.sources[index].stream.read(first, end - first - 1)
    if not len(ids) or int(ids.max()) >= len(run.piece_bytes):
        return 0, end - first
    ends = np.cumsum(run.piece_bytes[ids])
    # SentencePiece writes a blank before the text.
    added = int(ends[-1]) - document_bytes
    if added not in (0, 1):
        return 0, end - first
    starts = np.concatenate([[0], ends[:-1]])
    first_token = int(np.searchsorted(ends, passage[0] + added, side="right"))
    end_token = int(np.searchsorted(starts, passage[1] + added, side="left"))
    return first_token, end_token
