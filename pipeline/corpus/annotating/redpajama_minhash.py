"""The MinHash signatures of RedPajama-v2, byte for byte.

A shingle is 13 normalised words joined by blanks; its hash the first four bytes of sha1. 128 functions
`((a h + b) mod 2^64 mod p) mod 2^32` with p = 2^61 - 1, and for each the minimum over all shingles. A band
is some of these numbers, most significant byte first.
Source: RedPajama-Data, app/src/dedupe/minhash.py and utils.py, configs/rp_v2.0.conf. Reads and writes no
file.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha1
from itertools import islice

import numpy as np

SHINGLE_WORDS = 13
FUNCTIONS = 128
SEED = 42
BANDS_AND_ROWS = {"1.0": (1, 128), "0.9": (5, 25), "0.8": (9, 13), "0.7": (14, 9)}
"""Jaccard similarity -> bands, and numbers in each, that separate pairs above it best.

Source: `optimal_param` (app/src/dedupe/utils.py) for 128 functions."""
MERSENNE_PRIME = 2**61 - 1
BLOCK_WORDS = 2**16
"""Words that are held at once."""
BLOCK_SHINGLES = 256
"""Shingles that are hashed at once by all functions: 260 kB, which stay in a core's cache."""


@lru_cache
def published_functions() -> tuple[np.ndarray, np.ndarray]:
    """Return the factors a and the addends b of all functions, two `(128, 1) uint64`."""
    generator = np.random.RandomState(SEED)
    prime = np.uint64(MERSENNE_PRIME)
    drawn = [
        (generator.randint(1, prime, dtype=np.uint64), generator.randint(0, prime, dtype=np.uint64))
        for _ in range(FUNCTIONS)
    ]
    factors, addends = np.array(drawn, np.uint64).T
    return factors[:, None], addends[:, None]


def published_signature(words: Iterable[str]) -> np.ndarray | None:
    """Return the signature of a text, `(128,) uint32`; None where it has fewer words than a shingle.

    `words`: the normalised words of the text in order.
    """
    signature = np.full(FUNCTIONS, 2**32 - 1, np.uint64)
    is_long_enough = False
    for block in _overlapping(words):
        is_long_enough = True
        np.minimum(signature, _least_of(_shingle_hashes(block)), out=signature)
    return signature.astype(np.uint32) if is_long_enough else None


def _overlapping(words: Iterable[str]) -> Iterator[Sequence[str]]:
    """Yield words in blocks that each shingle is in one of."""
    waiting = iter(words)
    block: list[str] = []
    while True:
        # The last shingles of a block end in the next one.
        overlap = block[len(block) - SHINGLE_WORDS + 1 :]
        block = [*overlap, *islice(waiting, BLOCK_WORDS)]
        if len(block) < SHINGLE_WORDS:
            return
        yield block


def _least_of(hashes: np.ndarray) -> np.ndarray:
    """Return the minimum of each function over the hashes of shingles, `(128,) uint64`."""
    factors, addends = published_functions()
    prime = np.uint64(MERSENNE_PRIME)
    signature = np.full(FUNCTIONS, 2**32 - 1, np.uint64)
    for start in range(0, len(hashes), BLOCK_SHINGLES):
        products = factors * hashes[start : start + BLOCK_SHINGLES]
        products += addends
        # x mod (2^61 - 1): the upper three bits count as units.
        rest = products >> np.uint64(61)
        products &= prime
        products += rest
        # Where the prime is larger, the difference wraps around and is the larger one.
        np.minimum(products, products - prime, out=products)
        products &= np.uint64(2**32 - 1)
        np.minimum(signature, products.min(axis=1), out=signature)
    return signature


def _shingle_hashes(words: Sequence[str]) -> np.ndarray:
    """Return the hash of each shingle, `(words - 12,) uint64`."""
    encoded = [word.encode() for word in words]
    text = b" ".join(encoded)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    ends = np.cumsum(lengths + 1) - 1
    starts = (ends - lengths)[: len(words) - SHINGLE_WORDS + 1]
    ranges = zip(starts.tolist(), ends[SHINGLE_WORDS - 1 :].tolist(), strict=True)
    digests = b"".join([sha1(text[start:end]).digest()[:4] for start, end in ranges])
    return np.frombuffer(digests, "<u4").astype(np.uint64)


def published_bands(signature: np.ndarray, similarity: str) -> list[bytes]:
    """Return the bands of a signature for one of the similarities in BANDS_AND_ROWS."""
    bands, rows = BANDS_AND_ROWS[similarity]
    numbers = signature.astype(">u4")
    return [numbers[band * rows : (band + 1) * rows].tobytes() for band in range(bands)]
