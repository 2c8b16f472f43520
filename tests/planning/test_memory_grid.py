"""Which micro-batches the grid of memory looks at."""

from pipeline.engine.memory import FreeMemory, MemoryPart, MemorySetting
from pipeline.planning.memory_grid import MOST_MICRO_BATCH, memory_grid

FREE = FreeMemory(device=1e9, host=1e9, is_shared=False)


def micro_batches(sequences: int) -> list[int]:
    """Return the micro-batches of a grid for a batch of some sequences on two ranks, ascending."""
    setting = MemorySetting(
        dtype="bf16",
        zero_stage=1,
        ranks=2,
        micro_batch_sequences=1,
        global_batch_sequences=sequences,
        sequence_length=8,
    )
    cases = memory_grid(setting, FREE, lambda _: [MemoryPart("all", 1.0)], lambda _: None)
    return sorted({case.micro_batch_sequences for case in cases})


def test_micro_batches_divide_the_batch_of_a_rank() -> None:
    assert micro_batches(24) == [1, 2, 3, 4, 6, 12]


def test_a_huge_batch_has_its_small_micro_batches_at_once() -> None:
    """The divisors of 2^200 are the powers of two."""
    found = micro_batches(2**201)
    assert found == [2**power for power in range(17)]
    assert found[-1] == MOST_MICRO_BATCH
