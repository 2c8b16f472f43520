"""Held-out documents for tests: real words, so that passages can be cut from them."""

import random
from pathlib import Path

from helpers import list_documents

from pipeline.corpus.documents import ShardWriter
from pipeline.evaluation.built_in.patterns import WORDS


def write_heldout(
    documents_dir: Path, sources: dict[str, int], words: int = 400, also: tuple[str, ...] = ()
) -> dict[str, str]:
    """Write `{source: number of documents}` of random words as validation shards; return `{id:
    text}`.

    `also`: further words, for example the text of a special token.
    """
    texts = {}
    for source, count in sources.items():
        folder = documents_dir / source
        folder.mkdir(parents=True)
        writer = ShardWriter(folder, "validation", "0a", 1 << 27)
        rng = random.Random(source)
        for row in range(count):
            text = " ".join(rng.choices((*WORDS, *also), k=words))
            writer.add(text.encode(), b"{}", b"file", row)
            texts[f"{source}/validation_0a_000/{row}"] = text
        list_documents(documents_dir, [folder / name for name in writer.close()])
    return texts
