"""Freed memory that a process keeps for its next work item, instead of giving it to the kernel.

Changes the C library's allocator; reads and writes no file.
"""

import ctypes
from functools import cache

from pipeline.store.rank_environment import allocator_is_set, allocator_variables

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
"""Names of the two settings for `mallopt`. Source: malloc.h of the GNU C library."""
MAPPED_BYTES = 32 << 20
"""Smallest allocation that is mapped alone and given back when it is freed. The GNU C library
raises it to this size by itself, as large allocations are freed."""
KEPT_BYTES = 128 << 20
"""Freed memory at the end of the heap that is kept. By itself the GNU C library keeps twice its
largest freed allocation, less than what encoding a row group of 8 MB takes at once: with
SentencePiece every row group asked the kernel for 12,000 pages again."""


@cache
def keep_freed_memory() -> bool:
    """Let this process keep KEPT_BYTES of freed memory; return whether that was possible.

    What the user has set for malloc stays as it is, and other C libraries have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or allocator_is_set():
        return False
    # One of the two alone would stop the library from raising the other.
    return bool(mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))


def worker_memory_variables() -> dict[str, str]:
    """Return the variables with which a worker process of one core does the same from its start.

    A worker computes in a thread, which would have a heap of its own: one of 64 MB at most, given
    back whenever it is empty. With one heap for all threads the settings hold for that thread, too.
    """
    settings = {"mmap_threshold": MAPPED_BYTES, "trim_threshold": KEPT_BYTES, "arena_max": 1}
    return allocator_variables(settings)
