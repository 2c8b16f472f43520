"""Bands of MinHash: the probability that a pair is compared, and what has no shingles."""

import math

import numpy as np
import pytest
import scipy.stats

from pipeline.config.curation.annotate_section import MinHash
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.minhash import MinHashBands, shingle_hashes, word_hashes

BANDS = 14
ROWS = 8


def bands_of(words: list[str], section: MinHash) -> np.ndarray:
    (bands,) = MinHashBands(section).values(DocumentText(" ".join(words)))
    return bands


def pair(shared: int, own: int, size: int, generator: np.random.Generator) -> list[list[str]]:
    """Return the words of two texts with `shared` shingles in common and `own` more in each."""
    # Numbers of 63 bits: no word is drawn twice.
    drawn = [f"w{word}" for word in generator.integers(0, 2**63, shared + size - 1 + 2 * own)]
    common = drawn[: shared + size - 1]
    rest = drawn[len(common) :]
    return [common + rest[:own], common + rest[own:]]


def test_the_curve_of_14_bands_of_8_rows_by_hand() -> None:
    assert round((1 / BANDS) ** (1 / ROWS), 3) == 0.719
    assert round(1 - (1 - 0.8**ROWS) ** BANDS, 3) == 0.924


@pytest.mark.parametrize("words", [1, 5])
def test_pairs_of_known_similarity_are_candidates_as_often_as_the_curve_says(words: int) -> None:
    generator = np.random.default_rng(7)
    section = MinHash(words=words)
    pairs = 150
    statistic = 0.0
    # (shared, own): Jaccard similarity shared / (shared + 2 own).
    cases = [(40, 20), (60, 20), (70, 15), (80, 10), (85, 7)]
    for shared, own in cases:
        similarity = shared / (shared + 2 * own)
        expected = 1 - (1 - similarity**ROWS) ** BANDS
        found = 0
        for _ in range(pairs):
            first, second = (
                bands_of(text, section) for text in pair(shared, own, words, generator)
            )
            found += bool((first == second).any())
        statistic += (found - pairs * expected) ** 2 / (pairs * expected * (1 - expected))
    assert statistic < scipy.stats.chi2.ppf(0.999, len(cases))


def test_a_row_agrees_as_often_as_sets_are_similar() -> None:
    generator = np.random.default_rng(3)
    section = MinHash(bands=128, rows=1)
    agreeing = [
        (bands_of(first, section) == bands_of(second, section)).mean()
        for first, second in (pair(60, 20, 5, generator) for _ in range(60))
    ]
    error = math.sqrt(0.6 * 0.4 / (128 * 60))
    assert abs(np.mean(agreeing) - 0.6) < 5 * error


def test_shingles_are_runs_of_words_in_their_order() -> None:
    hashes = word_hashes(["a", "b"] * 3)
    assert len(hashes) == 6
    shingles = shingle_hashes(hashes, 2)
    assert len(shingles) == 5
    assert [*shingles[:2], *shingles[:2], shingles[0]] == [*shingles]
    assert shingles[0] != shingles[1]
    assert len(shingle_hashes(hashes, 6)) == 1
    assert len(shingle_hashes(hashes, 7)) == 0


def test_a_document_shorter_than_a_shingle_has_no_bands() -> None:
    part = MinHashBands(MinHash())
    assert part.values(DocumentText("one two, three four!")) == [None]
    assert part.values(DocumentText("")) == [None]
    (bands,) = part.values(DocumentText("One two, three four five!"))
    assert len(bands) == BANDS
    assert len({*bands}) == BANDS
    (same,) = part.values(DocumentText("one TWO three   four\nfive"))
    assert (same == bands).all()


def test_many_blocks_of_shingles_are_one_set() -> None:
    words = [f"w{number}" for number in range(1000)]
    turned = words[500:] + words[:500] + words[500:504]
    section = MinHash(words=1)
    assert (bands_of(words, section) == bands_of(turned, section)).all()
