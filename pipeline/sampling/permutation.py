"""A keyed permutation of the integers below n: shuffling without an index, forwards and backwards.

A balanced Feistel network permutes the smallest power of four that covers n; values at or above n
are sent through again until they fall below it (cycle-walking), fewer than 4 times on average.
Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", sections 3 and 4.
"""

import hashlib

import numpy as np

ROUNDS = 8
"""Luby and Rackoff 1988 need four for a pseudorandom permutation with ideal rounds; twice that for
a mere mixer."""
LARGEST = 1 << 62
"""Sizes up to this fit the signed integers of numpy."""

Key = tuple[int, ...]


def derive_key(*parts: object) -> Key:
    """Return one 64-bit round key per round, a pure function of the parts."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8 * ROUNDS).digest()
    return tuple(int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(ROUNDS))


def permute(indices: np.ndarray, size: int, key: Key) -> np.ndarray:
    """Return the images `(n,) int64` of indices `(n,)` below `size` under the permutation that
    `key` chooses."""
    return _walk(indices, size, key, backwards=False)


def invert(images: np.ndarray, size: int, key: Key) -> np.ndarray:
    """Return the indices `(n,) int64` whose images under the same permutation are `images`."""
    return _walk(images, size, key, backwards=True)


def _walk(values: np.ndarray, size: int, key: Key, backwards: bool) -> np.ndarray:
    assert 0 < size <= LARGEST
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    walked = _rounds(np.asarray(values, np.uint64), half, key, backwards)
    while len(outside := np.flatnonzero(walked >= np.uint64(size))):
        walked[outside] = _rounds(walked[outside], half, key, backwards)
    return walked.astype(np.int64)


def _rounds(values: np.ndarray, half: int, key: Key, backwards: bool) -> np.ndarray:
    shift = np.uint64(half)
    mask = np.uint64((1 << half) - 1)
    left = values >> shift
    right = values & mask
    for round_key in reversed(key) if backwards else key:
        if backwards:
            left, right = right ^ (_mix(left ^ np.uint64(round_key)) & mask), left
        else:
            left, right = right, left ^ (_mix(right ^ np.uint64(round_key)) & mask)
    return left << shift | right


def _mix(values: np.ndarray) -> np.ndarray:
    """Finalizer of SplitMix64. Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom
    number generators"."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
