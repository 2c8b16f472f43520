"""What to change where a planned run does not fit into memory."""

from pipeline.logs import binary_bytes
from pipeline.planning.memory_grid import fastest_that_fits
from pipeline.planning.plan import MemoryPlan


def memory_problems(memory: MemoryPlan) -> list[str]:
    """Return a message where the run's own settings need more memory than there is."""
    own = memory.own
    if own.fits:
        return []

    # The host's memory.
    if memory.lacks_host_memory:
        return [
            f"memory: the run needs {binary_bytes(own.host_bytes)} of a device's share of "
            f"{binary_bytes(memory.free.host)} of the host's memory; set "
            "checkpoint.asynchronous = false or a template without offloading, or plan for hosts "
            "with more memory"
        ]

    # The device's memory, with another way to execute the run.
    fastest = fastest_that_fits(memory.cases)
    remedy = "nothing that DeepSpeed executes fits: use more or larger devices"
    if fastest is not None:
        recompute = str(fastest.recomputes).lower()
        what = "would fit" if fastest.step_seconds is None else "the fastest that fits"
        remedy = (
            f"{what}: a template of ZeRO stage {fastest.zero_stage}, "
            f"batch.micro_batch_sequences = {fastest.micro_batch_sequences}, "
            f"train.activation_checkpointing = {recompute}"
        )
    return [
        f"memory: the run needs {binary_bytes(memory.needed(own))} of a device's "
        f"{binary_bytes(memory.free.device)}; {remedy}"
    ]
