"""Memory arithmetic: what one rank holds while it trains, by ZeRO stage, and what would make it
fit. Free of torch.

What each stage holds was read in DeepSpeed 0.19.8 and measured: `tests/engine/test_memory.py` adds
up the tensors of real engines. The moment that counts is the optimizer step for everything that
belongs to parameters (the copy of the gradients that some stages make then among it), the end of
the forward pass for activations; they are added as if both came at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.errors import ConfigError

WIDTH = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of a weight in the forward pass, by `precision.dtype`."""
RESERVE = 0.05
"""Share of the memory left to the allocator's gaps, kernels' work space and communication buffers
of the library."""


@dataclass(frozen=True)
class ModelShape:
    """What the sums need of a model."""

    parameters: int
    layers: int
    hidden: int
    heads: int
    attention: int
    """Width of all query heads together."""
    key_value: int
    """Width of all key heads together; that of the value heads is the same."""
    feed_forward: int
    is_gated: bool
    """Whether the feed-forward part has a third matrix (SwiGLU)."""
    vocabulary: int
    normalises_heads: bool = False
    """Whether queries and keys are normalised per head (Qwen3)."""


@dataclass(frozen=True)
class MemorySetting:
    """What the sums need of a run, as one rank has it."""

    dtype: str
    zero_stage: int
    ranks: int
    micro_batch_sequences: int
    global_batch_sequences: int
    sequence_length: int
    activation_checkpointing: bool = False
    stores_scores: bool = False
    """Whether attention keeps its (sequence, sequence) matrices: `eager` does, SDPA and flash
    kernels do not."""
    offloads_optimizer: bool = False
    offloads_parameters: bool = False
    to_nvme: bool = False
    """Whether what is offloaded lies on NVMe, not in host memory."""
    bucket_bytes: int = 0
    """Buffers that gradients are gathered in on their way to the other ranks."""
    moment_bytes: float = 8.0
    """Optimizer states per parameter, in bytes: AdamW's two fp32 moments."""
    copies_saves: bool = False
    """Whether a checkpoint is written from a copy in host memory (`checkpoint.asynchronous`)."""


@dataclass(frozen=True)
class MemoryPart:
    """One line of the sum, in bytes on this rank."""

    name: str
    device: float
    host: float = 0.0


def state_parts(parameters: int, setting: MemorySetting) -> list[MemoryPart]:
    """Return what belongs to parameters, at the optimizer step. Source: DeepSpeed 0.19.8, measured.

    Bytes a parameter, with K ranks (moments 8; the larger of two):

    | | fp32 | bf16 | fp16 |
    | stage 0 | 16 | refused | refused |
    | stage 1 | 8 + 12/K or 4 + 20/K | 8 + 12/K | 4 + 12/K or 2 + 18/K |
    | stage 2 | 4 + 20/K | 2 + 16/K | 2 + 18/K |
    | stage 3 | 24/K | 22/K | 20/K |
    """
    width = WIDTH[setting.dtype]
    stage = setting.zero_stage
    share = 1 / setting.ranks if stage >= 1 else 1.0
    weights = width / setting.ranks if stage == 3 else width
    # Accumulated gradients. bf16 at stages 1-3 accumulates in fp32: at stage 1 in a buffer of the
    # whole model on each rank, beside the bf16 gradients of the backward pass; at 2 and 3 in one of
    # this rank's part.
    accumulated = 4 if setting.dtype == "bf16" and stage >= 1 else width
    if stage >= 2:
        gradients = accumulated / setting.ranks
    else:
        gradients = float(width) if accumulated == width else float(width + accumulated)
    # fp32 at stage 0 steps on the model's own weights; everything else on an fp32 copy, of this
    # rank's part at stages 1-3.
    master = 0 if setting.dtype == "fp32" and stage == 0 else 4
    optimizer = (master + setting.moment_bytes) * share
    steps_on_accumulated = (setting.dtype == "bf16" and stage in (1, 2)) or (
        setting.dtype == "fp32" and stage == 0
    )
    copy = 0.0 if steps_on_accumulated else 4 * share
    if (
        stage == 1 and copy
    ):  # whole gradients until they are reduced, then this rank's part and its copy
        gradients, copy = (
            (float(width), 0.0) if width > (width + 4) * share else (width * share, copy)
        )
    # Stage 3 keeps its gradients' parts beside the optimizer; below, what stays on the device is
    # what backward writes.
    gradients_on_host = setting.offloads_optimizer and stage == 3
    lines = [
        _part("parameters", parameters * weights, setting.offloads_parameters, setting.to_nvme),
        _part("gradients", parameters * gradients, gradients_on_host, False),
        _part("optimizer", parameters * optimizer, setting.offloads_optimizer, setting.to_nvme),
        _part("gradients for the step", parameters * copy, setting.offloads_optimizer, False),
    ]
    return [part for part in lines if part.device or part.host]


def _part(name: str, size: float, is_offloaded: bool, to_nvme: bool) -> MemoryPart:
    if not is_offloaded:
        return MemoryPart(name, size)
    return MemoryPart(name, 0.0, 0.0 if to_nvme else size)


def activation_bytes(shape: ModelShape, setting: MemorySetting) -> float:
    """Return what the backward pass of one micro-batch needs of the forward pass, in bytes.

    Per token and layer: each norm's input in fp32, and its output before and after the weight;
    queries, keys, values and the attention's output; gate, its activation, up, and their product.
    With `activation_checkpointing` the input of every layer, and all of one. The method is that of
    Korthikanti et al. 2022 (arXiv:2205.05198), section 4.1, without dropout, for blocks as
    transformers computes them.
    """
    width = WIDTH[setting.dtype]
    tokens = setting.micro_batch_sequences * setting.sequence_length
    norms = 2 * shape.hidden * (4 + 2 * width)
    if shape.normalises_heads:
        norms += (shape.attention + shape.key_value) * (4 + width)
    attention = (2 * shape.attention + 2 * shape.key_value) * width
    if setting.stores_scores:
        attention += (
            shape.heads * setting.sequence_length * (4 + width)
        )  # the softmax in fp32, and cast
    feed_forward = (4 if shape.is_gated else 2) * shape.feed_forward * width
    layer = norms + attention + feed_forward
    if setting.activation_checkpointing:
        return tokens * (shape.layers * shape.hidden * width + layer)
    return tokens * shape.layers * layer


def logits_bytes(shape: ModelShape, setting: MemorySetting, tokens: int) -> float:
    """Return what the loss of so many tokens at once needs: logits, in fp32 their logarithms and
    their gradient."""
    width = WIDTH[setting.dtype]
    return tokens * shape.vocabulary * (width + 8.0)


def memory_parts(
    shape: ModelShape, setting: MemorySetting, logit_tokens: int | None = None
) -> list[MemoryPart]:
    """Return every line of the sum; `logit_tokens` that are put through the head at once, by
    default a micro-batch."""
    tokens = setting.micro_batch_sequences * setting.sequence_length
    found = state_parts(shape.parameters, setting)
    found.append(MemoryPart("activations", activation_bytes(shape, setting)))
    found.append(
        MemoryPart("logits", logits_bytes(shape, setting, min(tokens, logit_tokens or tokens)))
    )
    if setting.zero_stage == 3:
        # Gathered: the layer at work and the next one, of equal shares of the parameters; at least
        # the embedding.
        at_once = max(
            2 * shape.parameters / max(1, shape.layers), float(shape.vocabulary * shape.hidden)
        )
        found.append(
            MemoryPart("gathered weights", min(at_once, shape.parameters) * WIDTH[setting.dtype])
        )
    if setting.bucket_bytes:
        found.append(MemoryPart("communication buffers", float(setting.bucket_bytes)))
    if setting.copies_saves:
        copy = checkpoint_bytes(
            shape.parameters, setting.dtype, setting.zero_stage, setting.moment_bytes
        )
        found.append(MemoryPart("copy of a checkpoint", 0.0, copy / setting.ranks))
    return found


def checkpoint_bytes(parameters: int, dtype: str, zero_stage: int, moment_bytes: float) -> float:
    """Return the bytes of a checkpoint, over all ranks, but for names and random states.

    Weights as the forward pass has them, fp32 master weights, optimizer states (`moment_bytes` a
    parameter; AdamW: 8). In fp32 at stage 0 the weights are the master weights. Measured by
    `tests/checkpoint/test_disk.py`.
    """
    master = 0 if zero_stage == 0 else 4
    weights = 0 if zero_stage == 3 else WIDTH[dtype]
    return parameters * (weights + master + moment_bytes)


@dataclass(frozen=True)
class FreeMemory:
    """What one rank may use, in bytes."""

    device: float
    host: float
    """Of the host's memory; on CPUs the device's memory is the host's."""
    is_shared: bool
    """Whether device and host are one memory: on CPUs."""

    def fits(self, needed: Sequence[MemoryPart]) -> bool:
        """Tell whether the sum fits."""
        device = sum(p.device for p in needed)
        host = sum(p.host for p in needed)
        if self.is_shared:
            return device + host <= self.device * (1 - RESERVE)
        return device <= self.device * (1 - RESERVE) and host <= self.host * (1 - RESERVE)


def memory_remedies(
    shape: ModelShape, setting: MemorySetting, room: FreeMemory, logit_tokens: int | None = None
) -> list[str]:
    """Return the changes of settings that would make it fit, each tried by its sum: the smallest of
    each kind alone.

    Where none is enough, the first of all of them together that is, with ever more ranks.
    """

    def fits(changed: MemorySetting) -> bool:
        return room.fits(memory_parts(shape, changed, logit_tokens))

    found = []
    for kind in (_no_copy, _smaller_batches, _checkpointing, _higher_stages, _more_ranks):
        found += [text for text, changed in kind(setting) if fits(changed)][:1]
    if found:
        return found
    least = replace(
        setting,
        micro_batch_sequences=1,
        activation_checkpointing=True,
        zero_stage=3,
        copies_saves=False,
    )
    wish = (
        ("checkpoint.asynchronous = false, " if setting.copies_saves else "")
        + "batch.micro_batch_sequences = 1, train.activation_checkpointing = true and a template of ZeRO stage 3"
    )
    if fits(least):
        return [wish]
    return [f"{wish}, and {text}" for text, changed in _more_ranks(least) if fits(changed)][:1]


def _smaller_batches(setting: MemorySetting) -> Iterator[tuple[str, MemorySetting]]:
    micro = setting.micro_batch_sequences
    for size in (n for n in range(micro - 1, 0, -1) if micro % n == 0):
        yield f"batch.micro_batch_sequences = {size}", replace(setting, micro_batch_sequences=size)


def _no_copy(setting: MemorySetting) -> Iterator[tuple[str, MemorySetting]]:
    if setting.copies_saves:
        yield "checkpoint.asynchronous = false", replace(setting, copies_saves=False)


def _checkpointing(setting: MemorySetting) -> Iterator[tuple[str, MemorySetting]]:
    if not setting.activation_checkpointing:
        yield (
            "train.activation_checkpointing = true",
            replace(setting, activation_checkpointing=True),
        )


def _higher_stages(setting: MemorySetting) -> Iterator[tuple[str, MemorySetting]]:
    for stage in range(setting.zero_stage + 1, 4):
        yield f"deepspeed = a template of ZeRO stage {stage}", replace(setting, zero_stage=stage)


def _more_ranks(setting: MemorySetting) -> Iterator[tuple[str, MemorySetting]]:
    batch = setting.global_batch_sequences
    for ranks in range(setting.ranks + 1, batch // setting.micro_batch_sequences + 1):
        if batch % (ranks * setting.micro_batch_sequences) == 0:
            yield f"{ranks} ranks, each with as much memory", replace(setting, ranks=ranks)


def refuse_if_too_big(
    shape: ModelShape,
    setting: MemorySetting,
    room: FreeMemory,
    where: str,
    logit_tokens: int | None = None,
) -> list[MemoryPart]:
    """Return the sum; raises ConfigError with it, what there is, and what would fit, where it does
    not."""
    needed = memory_parts(shape, setting, logit_tokens)
    if not room.fits(needed):
        raise ConfigError(
            [
                _explain(
                    shape,
                    setting,
                    room,
                    where,
                    needed,
                    memory_remedies(shape, setting, room, logit_tokens),
                )
            ]
        )
    return needed


def _explain(
    shape: ModelShape,
    setting: MemorySetting,
    room: FreeMemory,
    where: str,
    needed: Sequence[MemoryPart],
    would_fit: Sequence[str],
) -> str:
    with_host = any(part.host for part in needed)
    total = MemoryPart("sum", sum(p.device for p in needed), sum(p.host for p in needed))
    available = MemoryPart(
        f"available ({1 - RESERVE:.0%} of what is free)",
        *(x * (1 - RESERVE) for x in (room.device, room.host)),
    )
    rows = [*needed, total, available]
    longest = max(len(row.name) for row in rows)
    lines = [
        f"{row.name:{longest}}  {_gib(row.device)}"
        + (f"  and on the host {_gib(row.host)}" if with_host else "")
        for row in rows
    ]
    head = (
        f"model: {shape.parameters:,} parameters in {setting.dtype} at ZeRO stage "
        f"{setting.zero_stage} on {setting.ranks} "
        f"ranks, micro-batches of {setting.micro_batch_sequences} x {setting.sequence_length} "
        f"tokens, do not fit {where}:"
    )
    if would_fit:
        remedy = "would fit: " + "; or ".join(would_fit)
    else:
        remedy = (
            "no micro-batch, ZeRO stage or number of ranks within this global batch fits: choose a "
            "smaller model"
        )
    return "\n      ".join([head, *lines, remedy])


def _gib(size: float) -> str:
    return f"{size / 2**30:>12,.2f} GiB"
