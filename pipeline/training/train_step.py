"""One optimizer step: forward, backward, agreement of the ranks, update."""

import resource
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.checkpoint.state import TrainState
from pipeline.engine.deepspeed_engine import Engine
from pipeline.engine.engine import clip_gradients, gradient_norm, loss_scale
from pipeline.engine.groups import sum_over_world_ranks
from pipeline.engine.noise_scale import NoiseScale, is_noise_measured
from pipeline.errors import UserError
from pipeline.model.device_batch import DeviceBatch
from pipeline.sampling.batches import IGNORED
from pipeline.training.run import Run


class NotFinite(UserError):
    """The loss is not a number and the gradient is: the weights have been touched. Nothing was
    written after that."""


@dataclass(frozen=True)
class StepResult:
    """What the ranks agree on about a step, and the norm of its gradient."""

    loss: float
    """Mean in nats over the targets of the global batch."""
    stop: bool
    saved: bool
    """Whether the files of the checkpoint before have been written on all ranks."""
    data_checksum: str
    peak_memory_bytes: int
    """Of the rank that needed most."""
    micro_square: float
    """Sum of the squared norms of the gradients of all micro-batches, each divided by the
    accumulation."""
    grad_norm: float | None = None
    """None where it is not finite."""
    is_made: bool = True
    """Whether the weights were updated, or would have been but for the scale of fp16's losses."""

    @property
    def finite_loss(self) -> float | None:
        """The loss, None where it is not finite."""
        return self.loss if np.isfinite(self.loss) else None


def train_step(run: Run, micro_batches: list[DeviceBatch], step: int) -> StepResult:
    """Do one optimizer step.

    Every target has the same weight in every step: the gradient is that of the sum of losses over
    the places for them. Raises NotFinite, on every rank.
    """
    # Forward and backward, one micro-batch after another.
    run.gradients.is_watching = is_noise_measured(step, len(micro_batches) * run.groups.sizes.data)
    sums, checksum = _accumulate(run, micro_batches)

    # The ranks agree on the loss, and whether to stop, before the weights are touched.
    agreed = _agree(run, sums, checksum)

    # Update the weights, on every rank or on none. At ZeRO 0 DeepSpeed does not clip.
    if run.engine.zero_optimization_stage() == 0:
        norm = _clip_and_update(run, agreed.loss)
    else:
        norm = _update(run.engine, agreed.loss, step)
    if np.isfinite(norm):
        return replace(agreed, grad_norm=norm)

    # An update that only fp16's loss scale has prevented counts as made: the scale falls.
    is_scalers = run.config.precision.dtype == "fp16" and np.isfinite(agreed.loss)
    return replace(agreed, is_made=is_scalers)


def _accumulate(run: Run, micro_batches: list[DeviceBatch]) -> tuple[torch.Tensor, int]:
    """Add up the gradients of this rank's micro-batches in the engine.

    Returns sums `(3,) float64` of losses, of targets, of squared gradients, and of checksums.
    """
    engine = run.engine
    sums = torch.zeros(3, dtype=torch.float64, device=engine.device)
    checksum = 0
    for number, batch in enumerate(micro_batches, 1):
        is_last = number == len(micro_batches)
        # DeepSpeed's own count loses the boundary where the batch changes.
        engine.set_gradient_accumulation_boundary(is_last)
        batch.wait()
        objective, losses = engine(batch.inputs, batch.targets, batch.positions)
        engine.backward(objective / losses.numel())  # divides by the accumulation steps
        sums[0] += losses.sum(dtype=torch.float64)
        sums[1] += (batch.targets != IGNORED).sum()
        checksum += batch.checksum
        if not is_last:
            engine.step()  # counts the micro-batch; weights change after the last one
    sums[2] = run.gradients.take() / (loss_scale(engine) or 1.0) ** 2
    return sums, checksum


def _agree(run: Run, sums: torch.Tensor, checksum: int) -> StepResult:
    """Add up, in one reduction, the sums `(3,) float64` and checksums of the data ranks, and the
    world ranks' wishes to stop.

    Each world rank's peak of memory has a place of its own in it, so that the sum holds them all.
    """
    sizes = run.groups.sizes
    assert sizes.data == sizes.world, "sums over samples would count some of them twice"
    # 64-bit checksums are added as two halves: sums of 32-bit numbers are exact in float64.
    halves = (checksum % 2**32, checksum // 2**32 % 2**32)
    flags = (float(run.stop.requested), float(run.saver.has_written))
    peaks = [0.0] * sizes.world
    peaks[run.groups.world_rank] = float(_peak_memory_bytes(sums.device))
    agreed = torch.cat([sums, sums.new_tensor([*flags, *halves, *peaks])])
    sum_over_world_ranks(agreed)
    loss, targets, micro_square, stops, written, low, high, *peaks = agreed.tolist()
    return StepResult(
        loss=loss / max(1.0, targets),
        stop=stops > 0,
        saved=run.saver.is_pending and written == sizes.world,
        data_checksum=f"{(int(low) + (int(high) << 32)) % 2**64:016x}",
        peak_memory_bytes=int(max(peaks)),
        micro_square=micro_square,
    )


def _clip_and_update(run: Run, loss: float) -> float:
    """Clip the gradients and update the weights at ZeRO 0; returns the norm before clipping, nan
    where it or the loss is not finite: then the weights stay."""
    engine = run.engine
    norm = float(clip_gradients(engine, run.config.optimizer.max_gradient_norm))
    if not np.isfinite([norm, loss]).all():
        engine.optimizer.zero_grad(set_to_none=True)  # without gradients a step changes nothing
        norm = np.nan
    engine.step()
    return norm


def _update(engine: Engine, loss: float, step: int) -> float:
    """Update the weights at ZeRO 1 to 3, where DeepSpeed clips; returns the norm before clipping.

    Where that is not finite the weights stay as they are, on every rank.
    """
    engine.step()
    norm = gradient_norm(engine)
    if np.isfinite(norm) and not np.isfinite(loss):
        raise NotFinite(
            f"the loss is {loss} at step {step} and its gradient a number: none of the "
            "guards can help. The "
            "checkpoints are those before it. Look at the model."
        )
    return norm


def noise_scale_after(run: Run, state: TrainState, result: StepResult) -> NoiseScale:
    """Return the running noise scale after the step that follows `state`; as it was where the step
    was not measured, or was skipped."""
    step = state.step + 1
    plan = run.config.step_plan
    micro_batch = run.config.batch.micro_batch_sequences
    micro_batches = plan.samples(step) // micro_batch  # of all data ranks
    if not is_noise_measured(step, micro_batches) or result.grad_norm is None:
        return state.noise_scale
    # DeepSpeed has divided each loss by the accumulation.
    accumulation = plan.accumulation(step, micro_batch, run.groups.sizes)
    small = result.micro_square * accumulation**2 / micro_batches
    tokens = plan.tokens(step)
    return state.noise_scale.after_step(small, tokens // micro_batches, result.grad_norm**2, tokens)


def _peak_memory_bytes(device: torch.device) -> int:
    """Return the most bytes of GPU memory since the last call, or of the process's memory since it
    began on a CPU."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts it in KiB
    # Counters on the host: the device is not waited for.
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak
