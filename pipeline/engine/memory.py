"""Memory arithmetic: the bytes that one rank holds while it trains, and changes that would fit.

The sums follow DeepSpeed 0.19.8's code and were measured: `tests/engine/test_memory.py` adds up the
tensors of real engines. What belongs to parameters is counted at the optimizer step, with the copy
of the gradients that some stages make then; activations at the end of the forward pass. Both are
added as if they came at the same time. Free of torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from pipeline.errors import ConfigError
from pipeline.model.shape import ModelShape, rows_at_once

WIDTH = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of a weight in the forward pass, by `precision.dtype`."""
RESERVE = 0.05
"""Share of free memory left to the allocator's gaps, kernels' work space and library buffers."""


@dataclass(frozen=True)
class MemorySetting:
    """The settings of a run that one rank's memory depends on."""

    dtype: str
    zero_stage: int
    ranks: int
    micro_batch_sequences: int
    global_batch_sequences: int
    sequence_length: int
    activation_checkpointing: bool = False
    stores_scores: bool = False
    """Whether attention keeps its (sequence, sequence) matrices: of all kinds only `eager` does."""
    offloads_optimizer: bool = False
    offloads_parameters: bool = False
    to_nvme: bool = False
    """Whether offloaded states are on NVMe, not in host memory."""
    bucket_bytes: int = 0
    """Bytes of the buffers in which gradients are collected for communication."""
    moment_bytes: float = 8.0
    """Optimizer states per parameter, in bytes: AdamW's two fp32 moments."""
    copies_saves: bool = False
    """Whether a checkpoint is written from a copy in host memory (`checkpoint.asynchronous`)."""

    @property
    def offloads(self) -> tuple[bool, bool]:
        """Whether the optimizer's states, and the parameters, are kept outside the device."""
        return (self.offloads_optimizer, self.offloads_parameters)


@dataclass(frozen=True)
class MemoryPart:
    """One line of the sum, in bytes on this rank."""

    name: str
    device: float
    host: float = 0.0


def state_parts(parameters: int, setting: MemorySetting) -> list[MemoryPart]:
    """Return the memory that belongs to parameters, at the optimizer step.

    Source: DeepSpeed 0.19.8, measured. Bytes a parameter on K ranks, with 8 of moments; "or" means
    the larger of two:

    | | fp32 | bf16 | fp16 |
    | stage 0 | 16 | refused | refused |
    | stage 1 | 8 + 12/K or 4 + 20/K | 8 + 12/K | 4 + 12/K or 2 + 18/K |
    | stage 2 | 4 + 20/K | 2 + 16/K | 2 + 18/K |
    | stage 3 | 24/K | 22/K | 20/K |
    """
    width = WIDTH[setting.dtype]
    stage = setting.zero_stage
    share = 1.0  # of the optimizer's states
    if stage >= 1:
        share = 1 / setting.ranks

    # Weights of the forward pass: stage 3 shards them.
    weights = float(width)
    if stage == 3:
        weights = width / setting.ranks

    # Accumulated gradients. bf16 at stages 1-3 accumulates in fp32: at stage 1 in a buffer of the
    # whole model on each rank, beside the bf16 gradients of the backward pass; at 2 and 3 in one of
    # this rank's part.
    gradients = float(width)
    if setting.dtype == "bf16" and stage == 1:
        gradients += 4
    elif setting.dtype == "bf16" and stage >= 2:
        gradients = 4 / setting.ranks
    elif stage >= 2:
        gradients = width / setting.ranks

    # fp32 at stage 0 steps on the model's own weights; everything else on an fp32 copy, of this
    # rank's part at stages 1-3.
    steps_on_weights = setting.dtype == "fp32" and stage == 0
    master = 4
    if steps_on_weights:
        master = 0
    optimizer = (master + setting.moment_bytes) * share

    # Some stages copy this rank's part of the gradients to fp32 for the step. fp32 and fp16 at
    # stage 1 hold whole gradients until they are reduced, then this rank's part and its copy: the
    # larger of the two counts.
    steps_on_accumulated = setting.dtype == "bf16" and stage in (1, 2)
    copy = 4 * share
    if steps_on_accumulated or steps_on_weights or (stage == 1 and width > (width + 4) * share):
        copy = 0.0
    elif stage == 1:
        gradients = width * share

    # Stage 3 keeps this rank's gradients beside the optimizer; below stage 3 they stay on the
    # device, where the backward pass writes them.
    gradients_on_host = setting.offloads_optimizer and stage == 3
    lines = [
        _part("parameters", parameters * weights, setting.offloads_parameters, setting.to_nvme),
        _part("gradients", parameters * gradients, gradients_on_host, False),
        _part("optimizer", parameters * optimizer, setting.offloads_optimizer, setting.to_nvme),
        _part("gradients for the step", parameters * copy, setting.offloads_optimizer, False),
    ]
    return [part for part in lines if part.device or part.host]


def _part(name: str, size: float, is_offloaded: bool, to_nvme: bool) -> MemoryPart:
    """Return a line of the sum, on the device, in the host's memory or, on NVMe, in neither."""
    if not is_offloaded:
        return MemoryPart(name, device=size)
    if to_nvme:
        return MemoryPart(name, device=0.0)
    return MemoryPart(name, device=0.0, host=size)


def activation_bytes(shape: ModelShape, setting: MemorySetting) -> float:
    """Return the bytes that one micro-batch's forward pass keeps for the backward pass.

    Per token and layer: each norm's input in fp32, and its output before and after the weight;
    queries, keys, values and the attention's output; gate, its activation, up, and their product.
    With `activation_checkpointing`: the input of every layer, and all of one layer.
    Source: the method of Korthikanti et al. 2022 (arXiv:2205.05198), section 4.1, without dropout,
    for blocks as transformers computes them.
    """
    width = WIDTH[setting.dtype]
    tokens = setting.micro_batch_sequences * setting.sequence_length
    norms = 2 * shape.hidden * (4 + 2 * width)
    if shape.normalises_heads:
        norms += (shape.attention + shape.key_value) * (4 + width)
    attention = (2 * shape.attention + 2 * shape.key_value) * width
    if setting.stores_scores:
        # The softmax in fp32, and its copy in the weights' format.
        attention += shape.heads * setting.sequence_length * (4 + width)
    tensors_of_feed_forward = 2
    if shape.is_gated:
        tensors_of_feed_forward = 4
    feed_forward = tensors_of_feed_forward * shape.feed_forward * width
    layer = norms + attention + feed_forward
    if setting.activation_checkpointing:
        return tokens * (shape.layers * shape.hidden * width + layer)
    return tokens * shape.layers * layer


def logits_bytes(shape: ModelShape, setting: MemorySetting, tokens: int) -> float:
    """Return the bytes that the loss of `tokens` needs at once.

    They are the logits, and in fp32 their logarithms and their gradient.
    """
    width = WIDTH[setting.dtype]
    return tokens * shape.vocabulary * (width + 8.0)


def logits_at_once(shape: ModelShape, setting: MemorySetting) -> int:
    """Return the tokens of a micro-batch whose logits are computed at once, as the loss does."""
    tokens = setting.micro_batch_sequences * setting.sequence_length
    return rows_at_once(tokens, shape.hidden, shape.layers, shape.vocabulary)


def memory_parts(
    shape: ModelShape, setting: MemorySetting, logit_tokens: int | None = None
) -> list[MemoryPart]:
    """Return every line of the sum.

    `logit_tokens` are the tokens whose logits are computed at once, by default a micro-batch.
    """
    # Parameters, activations, logits.
    tokens = setting.micro_batch_sequences * setting.sequence_length
    lines = state_parts(shape.parameters, setting)
    lines.append(MemoryPart("activations", activation_bytes(shape, setting)))
    logits = logits_bytes(shape, setting, min(tokens, logit_tokens or tokens))
    lines.append(MemoryPart("logits", logits))

    # Stage 3 gathers weights: those of the layer at work and of the next one, each with an equal
    # share of the parameters; at least those of the embedding.
    if setting.zero_stage == 3:
        two_layers = 2 * shape.parameters / max(1, shape.layers)
        gathered = max(two_layers, float(shape.vocabulary * shape.hidden))
        size = min(gathered, shape.parameters) * WIDTH[setting.dtype]
        lines.append(MemoryPart("gathered weights", size))

    # Buffers of communication and of saving.
    if setting.bucket_bytes:
        lines.append(MemoryPart("communication buffers", float(setting.bucket_bytes)))
    if setting.copies_saves:
        copy = checkpoint_bytes(
            shape.parameters, setting.dtype, setting.zero_stage, setting.moment_bytes
        )
        lines.append(MemoryPart("copy of a checkpoint", 0.0, copy / setting.ranks))
    return lines


def checkpoint_bytes(parameters: int, dtype: str, zero_stage: int, moment_bytes: float) -> float:
    """Return the bytes of a checkpoint over all ranks, without names and random states.

    A checkpoint holds the weights of the forward pass, but for stage 3; fp32 master weights, but at
    stage 0, which is fp32 and has no others; and optimizer states (`moment_bytes` a parameter;
    AdamW: 8). Measured by `tests/checkpoint/test_disk.py`.
    """
    weights = WIDTH[dtype]
    if zero_stage == 3:
        weights = 0
    master = 4
    if zero_stage == 0:
        master = 0
    return parameters * (weights + master + moment_bytes)


@dataclass(frozen=True)
class FreeMemory:
    """The memory that one rank may use, in bytes."""

    device: float
    """On CPUs the device's memory is the host's."""
    host: float
    is_shared: bool
    """Whether device and host are one memory: on CPUs."""

    def fits(self, needed: Sequence[MemoryPart]) -> bool:
        """Tell whether the sum fits, with RESERVE left over."""
        device = sum(part.device for part in needed)
        host = sum(part.host for part in needed)
        if self.is_shared:
            return device + host <= self.device * (1 - RESERVE)
        return device <= self.device * (1 - RESERVE) and host <= self.host * (1 - RESERVE)


Change = tuple[str, MemorySetting]
"""Text of the change that a user would make, and the setting that results."""


def memory_remedies(
    shape: ModelShape, setting: MemorySetting, free: FreeMemory, logit_tokens: int | None = None
) -> list[str]:
    """Return changes of settings that would fit, each tried by its sum.

    Each kind of change is tried alone; the smallest one that fits is returned. Where no kind fits
    alone, return all of them together, with the fewest additional ranks that fit.
    """

    def those_that_fit(changes: Iterable[Change]) -> Iterator[str]:
        for text, changed in changes:
            if free.fits(memory_parts(shape, changed, logit_tokens)):
                yield text

    # Each kind of change alone.
    remedies: list[str] = []
    for kind in (_no_copy, _smaller_batches, _checkpointing, _higher_stages, _more_ranks):
        remedies += islice(those_that_fit(kind(setting)), 1)
    if remedies:
        return remedies

    # All of them together, if need be on more ranks.
    smallest = replace(
        setting,
        micro_batch_sequences=1,
        activation_checkpointing=True,
        zero_stage=3,
        copies_saves=False,
    )
    together = (
        "batch.micro_batch_sequences = 1, train.activation_checkpointing = true and a template of "
        "ZeRO stage 3"
    )
    if setting.copies_saves:
        together = f"checkpoint.asynchronous = false, {together}"
    more_ranks = ((f"{together}, and {text}", more) for text, more in _more_ranks(smallest))
    return list(islice(those_that_fit(chain([(together, smallest)], more_ranks)), 1))


def _no_copy(setting: MemorySetting) -> Iterator[Change]:
    if setting.copies_saves:
        yield "checkpoint.asynchronous = false", replace(setting, copies_saves=False)


def _smaller_batches(setting: MemorySetting) -> Iterator[Change]:
    micro = setting.micro_batch_sequences
    for size in (n for n in range(micro - 1, 0, -1) if micro % n == 0):
        yield f"batch.micro_batch_sequences = {size}", replace(setting, micro_batch_sequences=size)


def _checkpointing(setting: MemorySetting) -> Iterator[Change]:
    if not setting.activation_checkpointing:
        yield (
            "train.activation_checkpointing = true",
            replace(setting, activation_checkpointing=True),
        )


def _higher_stages(setting: MemorySetting) -> Iterator[Change]:
    for stage in range(setting.zero_stage + 1, 4):
        yield f"deepspeed = a template of ZeRO stage {stage}", replace(setting, zero_stage=stage)


def _more_ranks(setting: MemorySetting) -> Iterator[Change]:
    batch = setting.global_batch_sequences
    for ranks in range(setting.ranks + 1, batch // setting.micro_batch_sequences + 1):
        if batch % (ranks * setting.micro_batch_sequences) == 0:
            yield f"{ranks} ranks, each with as much memory", replace(setting, ranks=ranks)


def refuse_if_too_big(
    shape: ModelShape,
    setting: MemorySetting,
    free: FreeMemory,
    where: str,
    logit_tokens: int | None = None,
) -> list[MemoryPart]:
    """Return every line of the sum.

    Raises ConfigError where the sum does not fit, with its lines, the memory that is available and
    the changes that would fit. `where` ends the message's "do not fit".
    """
    needed = memory_parts(shape, setting, logit_tokens)
    if free.fits(needed):
        return needed
    head = (
        f"model: {shape.parameters:,} parameters in {setting.dtype} at ZeRO stage "
        f"{setting.zero_stage} on {setting.ranks} ranks, micro-batches of "
        f"{setting.micro_batch_sequences} x {setting.sequence_length} tokens, do not fit {where}:"
    )
    would_fit = memory_remedies(shape, setting, free, logit_tokens)
    if would_fit:
        remedy = "would fit: " + "; or ".join(would_fit)
    else:
        remedy = (
            "no micro-batch, ZeRO stage or number of ranks within this global batch fits: choose a "
            "smaller model"
        )
    raise ConfigError(["\n      ".join([head, *_table(needed, free), remedy])])


def _table(needed: Sequence[MemoryPart], free: FreeMemory) -> list[str]:
    """Return the sum as lines of text: each part, the total, and the memory that is available."""
    total = MemoryPart("sum", sum(p.device for p in needed), sum(p.host for p in needed))
    share = 1 - RESERVE
    available = MemoryPart(
        f"available ({share:.0%} of what is free)", free.device * share, free.host * share
    )
    rows = [*needed, total, available]
    longest = max(len(row.name) for row in rows)
    lines = [f"{row.name:{longest}}  {_gib(row.device)}" for row in rows]
    if total.host:
        lines = [
            f"{line}  and on the host {_gib(row.host)}"
            for line, row in zip(lines, rows, strict=True)
        ]
    return lines


def _gib(size: float) -> str:
    return f"{size / 2**30:>12,.2f} GiB"
