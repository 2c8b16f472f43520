"""The published MinHash signatures: one shingle by hand, and the published code's bytes."""

import hashlib

import numpy as np
import xxhash
from published_code import needs_published_code, published_code, real_documents

from pipeline.config.curation.annotate_section import MinHash
from pipeline.corpus.annotating.document_text import DocumentText, normalised_words
from pipeline.corpus.annotating.minhash import MinHashBands
from pipeline.corpus.annotating.redpajama_minhash import (
    BANDS_AND_ROWS,
    published_bands,
    published_functions,
    published_signature,
)

WORDS = [f"w{number}" for number in range(13)]


def test_one_shingle_by_hand() -> None:
    signature = published_signature(WORDS)
    assert signature is not None
    digest = hashlib.sha1(" ".join(WORDS).encode()).digest()
    value = int.from_bytes(digest[:4], "little")
    factors, addends = published_functions()
    expected = [
        ((int(a) * value + int(b)) % 2**64 % (2**61 - 1)) % 2**32
        for a, b in zip(factors.flat, addends.flat, strict=True)
    ]
    assert signature.tolist() == expected
    bands = published_bands(signature, "0.8")
    assert [len(band) for band in bands] == [4 * 13] * 9
    assert int.from_bytes(bands[1][:4], "big") == expected[13]
    assert published_signature(WORDS[:12]) is None


def test_the_minimum_is_over_all_shingles() -> None:
    generator = np.random.default_rng(5)
    words = [f"w{number}" for number in generator.integers(0, 2**63, 700)]
    whole = published_signature(words)
    first, second = published_signature(words[:400]), published_signature(words[388:])
    assert first is not None and second is not None
    assert whole is not None
    assert (whole == np.minimum(first, second)).all()


def test_the_column_holds_hashes_of_the_published_bands() -> None:
    section = MinHash(scheme="redpajama-v2", similarity="0.9")
    (hashes,) = MinHashBands(section).values(DocumentText(" ".join(WORDS)))
    signature = published_signature(WORDS)
    assert signature is not None
    assert hashes.tolist() == [
        xxhash.xxh3_64_intdigest(band, number)
        for number, band in enumerate(published_bands(signature, "0.9"))
    ]
    assert MinHashBands(section).values(DocumentText("too short")) == [None]


@needs_published_code
def test_signatures_are_the_bytes_of_the_published_code() -> None:
    texts = real_documents(each=3)
    with published_code() as code:
        similarities = [float(similarity) for similarity in BANDS_AND_ROWS]
        published = code.minhash(similarities, ngram_size=13, num_permutations=128, seed=42)
        for name, text in texts.items():
            words = normalised_words(text)
            signature = published_signature(words)
            expected = published.compute_banded_signatures(tuple(words))
            for similarity in BANDS_AND_ROWS:
                bands = signature is not None and published_bands(signature, similarity)
                key = f"signature_sim{float(similarity)}"
                assert (bands or None) == expected[key], (name, similarity)
