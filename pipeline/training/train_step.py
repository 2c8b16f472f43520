"""One optimizer step: forward, backward, agreement of the ranks, update."""

import resource
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.checkpoint.state import TrainState
from pipeline.engine.deepspeed_engine import Engine
from pipeline.engine.engine import clip_gradients, gradient_norm, loss_scale
from pipeline.engine.groups import sum_over_world_ranks
from pipeline.engine.noise_average import NoiseScale, is_noise_measured
from pipeline.errors import UserError
from pipeline.model.device_batch import DeviceBatch
from pipeline.sampling.batches import IGNORED, loss_groups
from pipeline.training.run import Run


class LossNotFinite(UserError):
    """The loss is not finite although its gradient is: the weights have already been updated.

    Nothing is saved after that update.
    """


@dataclass(frozen=True)
class _Accumulated:
    """What one rank adds up over its micro-batches, on the device."""

    sums: torch.Tensor
    """`(3,) float64`: sums of losses, of targets and of squared gradient norms."""
    by_group: torch.Tensor
    """`(2, groups) float64`: sums of losses and of targets by the group of their rows."""
    checksum: int
    """Sum of the checksums of the batches."""


@dataclass(frozen=True)
class StepResult:
    """The figures of one step that all ranks have agreed on, and the norm of its gradient."""

    loss: float
    """Mean over the targets of the global batch, in nats."""
    stop: bool
    """Whether any rank has been asked to stop."""
    saved: bool
    """Whether all ranks have written their files of the pending checkpoint."""
    data_checksum: str
    """Sum of the checksums of all ranks' batches, modulo 2^64, in hexadecimal."""
    peak_memory_bytes: int
    """Maximum over the ranks of their peak memory."""
    micro_square: float
    """Sum over all micro-batches of the squared norm of the gradient divided by the accumulation."""
    group_nats: tuple[float, ...]
    """Sum of the losses of each group of rows (`Batch.groups`), in nats."""
    group_targets: tuple[float, ...]
    """Targets of each group."""
    grad_norm: float | None = None
    """Norm of the gradient before clipping; None where it is not finite."""
    is_made: bool = True
    """Whether the update counts as made: also True where only fp16's loss scale prevented it."""

    @property
    def finite_loss(self) -> float | None:
        """The loss; None where it is not finite."""
        if np.isfinite(self.loss):
            return self.loss
        return None


def train_step(run: Run, micro_batches: list[DeviceBatch], step: int) -> StepResult:
    """Do one optimizer step.

    Every target has the same weight in every step: the objective is the sum of the losses of all
    targets, divided by the number of places that can hold a target. Raises LossNotFinite on every
    rank where the loss is not finite although its gradient is.
    """
    # Forward and backward, one micro-batch after another.
    run.gradients.is_watching = is_noise_measured(step, len(micro_batches) * run.groups.sizes.data)
    accumulated = _accumulate(run, micro_batches)

    # The ranks agree on the loss, and on whether to stop, before the weights change.
    agreed = _agree(run, accumulated)

    # Update the weights on every rank or on none. At ZeRO 0 DeepSpeed does not clip.
    if run.engine.zero_optimization_stage() == 0:
        norm = _clip_and_update(run, agreed.loss)
    else:
        norm = _update(run.engine, agreed.loss, step)
    if np.isfinite(norm):
        return replace(agreed, grad_norm=norm)

    # An update that only fp16's loss scale prevented counts as made: the scale is lowered.
    is_overflow = run.config.precision.dtype == "fp16" and np.isfinite(agreed.loss)
    return replace(agreed, is_made=is_overflow)


def _accumulate(run: Run, micro_batches: list[DeviceBatch]) -> _Accumulated:
    """Accumulate the gradients of this rank's micro-batches in the engine, and add up their losses."""
    engine = run.engine
    sums = torch.zeros(3, dtype=torch.float64, device=engine.device)
    checksum = 0
    nats_of_rows: list[torch.Tensor] = []
    targets_of_rows: list[torch.Tensor] = []
    for number, batch in enumerate(micro_batches, 1):
        is_last = number == len(micro_batches)
        # Set the boundary: DeepSpeed's own count is wrong after the batch size has changed.
        engine.set_gradient_accumulation_boundary(is_last)
        batch.wait()
        objective, losses = engine(batch.inputs, batch.targets, batch.positions)
        engine.backward(objective / losses.numel())  # DeepSpeed divides by the accumulation
        targets = (batch.targets != IGNORED).sum(1)
        sums[0] += losses.sum(dtype=torch.float64)
        sums[1] += targets.sum()
        nats_of_rows.append(losses.sum(1, dtype=torch.float64))
        targets_of_rows.append(targets)
        checksum += batch.checksum
        if not is_last:
            engine.step()  # only counts the micro-batch: weights change after the last one
    sums[2] = run.gradients.take() / (loss_scale(engine) or 1.0) ** 2
    rows = torch.stack([torch.cat(nats_of_rows), torch.cat(targets_of_rows)])
    groups = torch.cat([batch.groups for batch in micro_batches])
    number_of_groups = loss_groups(len(run.loader.data.order.names))
    return _Accumulated(sums, sums_by_group(rows, groups, number_of_groups), checksum)


def sums_by_group(rows: torch.Tensor, groups: torch.Tensor, number: int) -> torch.Tensor:
    """Add up each line of `(lines, rows) float64` by the rows' groups `(rows,)`: `(lines, number)`.

    The same rows give the same bits, which an addition by index on a GPU does not; a row that is not
    finite spoils its own group only.
    """
    is_member = groups == torch.arange(number, device=groups.device)[:, None]
    return torch.where(is_member, rows[:, None], 0.0).sum(2)


def _agree(run: Run, accumulated: _Accumulated) -> StepResult:
    """Agree on a step's sums, checksum, peak memory and requests to stop, in one reduction.

    Each world rank's peak memory has an element of its own, so that the sum over ranks holds all
    peaks.
    """
    sums = accumulated.sums
    checksum = accumulated.checksum
    sizes = run.groups.sizes
    assert sizes.data == sizes.world, "sums over samples would count some of them twice"
    # 64-bit checksums are added as two halves: sums of 32-bit numbers are exact in float64.
    halves = (checksum % 2**32, checksum // 2**32 % 2**32)
    flags = (float(run.stop.requested), float(run.saver.has_written))
    peaks = [0.0] * sizes.world
    peaks[run.groups.world_rank] = float(_peak_memory_bytes(sums.device))
    others = sums.new_tensor([*flags, *halves, *peaks])
    agreed = torch.cat([sums, others, accumulated.by_group.flatten()])
    sum_over_world_ranks(agreed)
    loss, targets, micro_square, stops, written, low, high, *rest = agreed.tolist()
    number_of_groups = accumulated.by_group.shape[1]
    return StepResult(
        loss=loss / max(1.0, targets),
        stop=stops > 0,
        saved=run.saver.is_pending and written == sizes.world,
        data_checksum=f"{(int(low) + (int(high) << 32)) % 2**64:016x}",
        peak_memory_bytes=int(max(rest[: sizes.world])),
        micro_square=micro_square,
        group_nats=tuple(rest[sizes.world : -number_of_groups]),
        group_targets=tuple(rest[-number_of_groups:]),
    )


def _clip_and_update(run: Run, loss: float) -> float:
    """Clip the gradients and update the weights at ZeRO 0; return the norm before clipping.

    Returns nan, and leaves the weights unchanged, where the norm or the loss is not finite.
    """
    engine = run.engine
    norm = float(clip_gradients(engine, run.config.optimizer.max_gradient_norm))
    if not np.isfinite([norm, loss]).all():
        engine.optimizer.zero_grad(set_to_none=True)  # a step without gradients changes nothing
        norm = np.nan
    engine.step()
    return norm


def _update(engine: Engine, loss: float, step: int) -> float:
    """Update the weights at ZeRO 1 to 3, where DeepSpeed clips; return the norm before clipping.

    Where the norm is not finite, no rank changes its weights. Raises LossNotFinite where the norm
    is finite and the loss is not.
    """
    engine.step()
    norm = gradient_norm(engine)
    if np.isfinite(norm) and not np.isfinite(loss):
        raise LossNotFinite(
            f"loss is {loss} at step {step} although its gradient is finite: the weights have "
            "already been updated, so no guard can skip this step. All checkpoints are from "
            "earlier steps. Correct the model's forward pass; the next start resumes from the last of "
            "them."
        )
    return norm


def noise_scale_after(run: Run, state: TrainState, result: StepResult) -> NoiseScale:
    """Return the running noise scale after the step that follows `state`.

    Returns it unchanged where that step was not measured or its update was skipped.
    """
    step = state.step + 1
    plan = run.config.step_plan
    micro_batch = run.config.batch.micro_batch_sequences
    micro_batches = plan.samples(step) // micro_batch  # on all data ranks together
    if not is_noise_measured(step, micro_batches) or result.grad_norm is None:
        return state.noise_scale
    # Undo DeepSpeed's division of each loss by the accumulation.
    accumulation = plan.accumulation(step, micro_batch, run.groups.sizes)
    small = result.micro_square * accumulation**2 / micro_batches
    tokens = plan.tokens(step)
    return state.noise_scale.after_step(small, tokens // micro_batches, result.grad_norm**2, tokens)


def _peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of GPU memory since the last call, in bytes.

    On a CPU: the largest resident set of the process since it began.
    """
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts it in KiB
    # PyTorch counts on the host, so this does not wait for the device.
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak
