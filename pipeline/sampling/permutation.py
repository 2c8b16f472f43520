"""A keyed permutation of the integers below n: shuffling without an index, forwards and backwards.

A balanced Feistel network permutes the smallest power of four that covers n; values at or above n
are sent through again until they fall below it (cycle-walking), fewer than 4 times on average.
Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", sections 3 and 4.
"""

import hashlib

import numpy as np

ROUNDS = 8
"""Rounds of the network.

Luby and Rackoff 1988 need four for a pseudorandom permutation when every round is ideal; these
rounds are only a mixer, so there are twice as many.
"""
LARGEST = 1 << 62
"""Maximum size of a permutation: every value fits a signed 64-bit integer."""

Key = tuple[int, ...]
"""One 64-bit key per round."""


def derive_key(*parts: object) -> Key:
    """Return one 64-bit round key per round, a pure function of the parts."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8 * ROUNDS).digest()
    return tuple(int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(ROUNDS))


def permute(indices: np.ndarray, size: int, key: Key) -> np.ndarray:
    """Return the images `(n,) int64` of indices `(n,)` under a permutation.

    `key` chooses the permutation of the integers from 0 and below `size`.
    """
    return _walk(indices, size, key, backwards=False)


def invert(images: np.ndarray, size: int, key: Key) -> np.ndarray:
    """Return the indices `(n,) int64` that `permute` maps to `images`, given the same key and size."""
    return _walk(images, size, key, backwards=True)


def _walk(values: np.ndarray, size: int, key: Key, backwards: bool) -> np.ndarray:
    """Apply the network to each value until the value is below `size` (cycle-walking)."""
    assert 0 < size <= LARGEST
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    walked = _rounds(np.asarray(values, np.uint64), half, key, backwards)
    outside = np.flatnonzero(walked >= np.uint64(size))
    while len(outside):
        walked[outside] = _rounds(walked[outside], half, key, backwards)
        outside = np.flatnonzero(walked >= np.uint64(size))
    return walked.astype(np.int64)


def _rounds(values: np.ndarray, half: int, key: Key, backwards: bool) -> np.ndarray:
    """Apply all rounds once, or their inverse, to values of two halves of `half` bits."""
    shift = np.uint64(half)
    mask = np.uint64((1 << half) - 1)
    left = values >> shift
    right = values & mask
    if backwards:
        for round_key in reversed(key):
            unmixed = right ^ (mix_bits(left ^ np.uint64(round_key)) & mask)
            right = left
            left = unmixed
    else:
        for round_key in key:
            mixed = left ^ (mix_bits(right ^ np.uint64(round_key)) & mask)
            left = right
            right = mixed
    return left << shift | right


def mix_bits(values: np.ndarray) -> np.ndarray:
    """Mix 64-bit values `uint64` with the finalizer of SplitMix64.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
    """
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
