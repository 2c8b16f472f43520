"""The number of threads that a rank computes with on a CPU."""

import os

import torch

from pipeline.store.rank_environment import THREADS_VARIABLE


def adopt_thread_count() -> None:
    """Compute with OMP_NUM_THREADS threads.

    OpenMP reads the variable when torch is imported. A rank that was forked after the import would
    keep the number of the process that it was forked from.
    """
    count = os.environ.get(THREADS_VARIABLE, "")
    if count.isdecimal() and int(count) > 0:
        torch.set_num_threads(int(count))
