"""The settings of a run that its memory depends on, from its run file and DeepSpeed's config.

Free of torch.
"""

from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import (
    BUCKET_ELEMENTS,
    DeepSpeedConfig,
    ZeroSettings,
    offload_device,
)
from pipeline.engine.memory import WIDTH, MemorySetting


def memory_setting(
    config: RunConfig, resolved: DeepSpeedConfig, ranks: int, on_gpu: bool
) -> MemorySetting:
    """Collect the settings of a run that its memory depends on."""
    zero = resolved["zero_optimization"]
    optimizer_device = offload_device(resolved, "optimizer")
    parameter_device = offload_device(resolved, "param")

    # On a CPU a buffer's pages take no memory until they are written: the gradients' own size at
    # most.
    bucket_bytes = 0
    if on_gpu:
        bucket_bytes = _bucket_bytes(zero, config.precision.dtype)
    return MemorySetting(
        dtype=config.precision.dtype,
        zero_stage=zero["stage"],
        ranks=ranks,
        micro_batch_sequences=config.batch.micro_batch_sequences,
        global_batch_sequences=config.global_batch_sequences,
        sequence_length=config.data.sequence_length,
        activation_checkpointing=config.train.activation_checkpointing,
        stores_scores=config.model.config.get("attn_implementation") == "eager",
        offloads_optimizer=optimizer_device != "none",
        offloads_parameters=parameter_device != "none",
        to_nvme="nvme" in (optimizer_device, parameter_device),
        copies_saves=config.checkpoint.asynchronous,
        bucket_bytes=bucket_bytes,
    )


def _bucket_bytes(zero: ZeroSettings, dtype: str) -> int:
    """Return the bytes of DeepSpeed's gradient buffers: two where communication overlaps."""
    stage = zero["stage"]
    if stage == 0 or (stage == 1 and dtype == "bf16") or not zero.get("contiguous_gradients", True):
        return 0
    buffers = 1
    if stage < 3 and zero.get("overlap_comm", False):
        buffers = 2
    return int(zero.get("reduce_bucket_size", BUCKET_ELEMENTS)) * WIDTH[dtype] * buffers
