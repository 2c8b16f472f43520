"""A huge document takes a bounded amount of memory for each byte of its text."""

import random
import tracemalloc

from pipeline.config.curation.annotate_section import Annotate, MinHash
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.minhash import MinHashBands
from pipeline.corpus.annotating.paragraphs import ParagraphHashes
from pipeline.corpus.annotating.signals.signals_part import QualitySignals

WORDS = 300_000
MOST_BYTES = 14
"""A document of 20 MB then takes 280 MB beside its text and what a worker holds anyway."""


def test_memory_for_each_byte_of_a_text() -> None:
    # Few frequent words, so that n-grams repeat, and lines of a dozen words.
    draw = random.Random(0)
    words = [f"word{min(9999, int(draw.paretovariate(0.5)))}" for _ in range(WORDS)]
    words[::12] = [f"{word}\n" for word in words[::12]]
    text = " ".join(words)
    parts = [
        QualitySignals(Annotate().signal_columns, "en"),
        MinHashBands(MinHash()),
        ParagraphHashes(),
    ]
    for part in parts:
        part.values(DocumentText("Loads what all documents use."))

    document = DocumentText(text)
    tracemalloc.start()
    try:
        for part in parts:
            part.values(document)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / len(text) < MOST_BYTES, f"{peak / len(text):.1f} bytes for each of {len(text):,}"
