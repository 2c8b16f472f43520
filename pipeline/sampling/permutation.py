"""A keyed permutation of the integers below n: shuffling without an index.

A balanced Feistel network permutes the smallest power of four that covers n; values at or above n are sent through
again until they fall below it (cycle-walking), fewer than 4 times on average.
Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", sections 3 and 4.
"""

import hashlib

ROUNDS = 8
"""Luby and Rackoff 1988 need four for a pseudorandom permutation with ideal rounds; twice that for a mere mixer."""
_MASK = 2**64 - 1


def derive_key(*parts: object) -> tuple[int, ...]:
    """Return one 64-bit round key per round, a pure function of the parts."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8 * ROUNDS).digest()
    return tuple(int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(ROUNDS))


def permute(index: int, size: int, key: tuple[int, ...]) -> int:
    """Return the image of `index` under the permutation of range(size) that `key` chooses."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    value = index
    while True:
        left, right = value >> half, value & mask
        for round_key in key:
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        value = left << half | right
        if value < size:
            return value


def _mix(value: int) -> int:
    """Finalizer of SplitMix64. Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
