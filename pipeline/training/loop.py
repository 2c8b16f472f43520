"""The training loop, run by every rank: step, log, validate, save, stop."""

import resource
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pipeline.checkpoint.retention import is_saved
from pipeline.checkpoint.saver import Saver
from pipeline.checkpoint.state import GuardState, TrainState
from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.config.schedules import learning_rate
from pipeline.engine.engine import Engine, clip_gradients, gradient_norm, loss_scale
from pipeline.engine.groups import sum_over_world_ranks
from pipeline.engine.noise_scale import MicroBatchGradients, NoiseScale, is_measured
from pipeline.engine.optimizers.parameter_groups import set_learning_rate
from pipeline.errors import UserError
from pipeline.model.costs import ModelSize, flops_utilisation
from pipeline.model.device_batch import DeviceBatch
from pipeline.sampling.batches import IGNORED
from pipeline.sampling.loader import Loader
from pipeline.store.events import write_event
from pipeline.store.heartbeat import Heartbeat, NoHeartbeat
from pipeline.store.metrics import MetricsFile
from pipeline.training.guard import Trouble, is_new_level, judge
from pipeline.training.start_up import StartUp
from pipeline.training.stop import StopSignal
from pipeline.training.trackers import Trackers
from pipeline.training.validation import HeldOut, validate

PROBE_TOKENS = 32


class NotFinite(UserError):
    """The loss is not a number and the gradient is: the weights have been touched. Nothing was
    written after that."""


class GoBack(Exception):
    """The run has to go back to a checkpoint. Raised on every rank after the same step."""

    def __init__(self, step: int, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.step, self.trouble = step, trouble


@dataclass(frozen=True)
class Run:
    """What the loop works with; nothing in it changes but the engine's weights."""

    config: RunConfig
    groups: RankGroups
    engine: Engine
    loader: Loader[DeviceBatch]
    held_out: HeldOut
    saver: Saver
    stop: StopSignal
    heartbeat: Heartbeat | NoHeartbeat
    metrics: MetricsFile | None
    """Only rank 0 writes."""
    trackers: Trackers
    gradients: MicroBatchGradients
    start_up: StartUp
    size: ModelSize
    peak_flops: float | None


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
    """Sum of the squared norms of the gradients of all ranks' micro-batches, each divided by the
    accumulation."""
    grad_norm: float | None = None
    """None where it is not finite."""
    is_made: bool = True
    """Whether the weights were updated, or would have been but for the scale of fp16's losses."""


def train(run: Run, state: TrainState) -> TrainState:
    """Train from `state` to the end, or until told to stop; the returned state has been saved.

    Raises GoBack, and NotFinite, on every rank at the same step.
    """
    config, plan, waited_from = run.config, run.config.step_plan, time.perf_counter()
    for micro_batches in run.loader:
        started = time.perf_counter()
        step = state.step + 1
        rate = learning_rate(config, step)
        set_learning_rate(run.engine, rate)
        run.engine.set_train_batch_size(plan.samples(step))
        result = train_step(run, micro_batches, step)
        loss = result.loss if np.isfinite(result.loss) else None
        known = GuardState() if is_new_level(config, run.loader.data.order, step) else state.guard
        guard, trouble = judge(known, loss, result.is_made, config.guard)
        state = state.after_step(plan.tokens(step), _noise_scale(run, state, result), guard)
        is_last = state.step == plan.total_steps
        now = time.perf_counter()
        record: dict[str, Any] = {"step": state.step, "tokens": state.tokens, "loss": loss}
        record |= {
            "grad_norm": result.grad_norm,
            "learning_rate": rate,
            "data_checksum": result.data_checksum,
        }
        record |= {
            "peak_memory_bytes": result.peak_memory_bytes,
            "loss_scale": loss_scale(run.engine),
        }
        record |= {"gradient_noise_scale_tokens": state.noise_scale.tokens}
        record |= _speed(run, step, seconds=now - waited_from, waited=started - waited_from)
        run.heartbeat.beat(f"step {state.step} done")
        if not result.is_made and run.metrics:
            message = f"step {step}: loss or gradient is not finite; its update is not made"
            write_event(
                config.paths.run_dir, "update not made", step=step, loss=loss, message=message
            )
        if not trouble and (is_last or state.step % config.train.validate_every_steps == 0):
            record |= validate(
                run.engine,
                run.groups,
                run.held_out,
                config.batch.micro_batch_sequences,
                run.heartbeat,
            )
            record["validation_seconds"] = time.perf_counter() - now
        if run.metrics:
            run.metrics.write(record)
            run.start_up.first_step(config.paths.run_dir)
        run.trackers.write(record)
        if trouble:
            raise GoBack(state.step, trouble)
        if result.saved:
            run.saver.publish()
        if is_last or result.stop or is_saved(state.step, config.checkpoint):
            run.saver.save(state, probe(run))
        if result.stop and not is_last:
            break
        waited_from = time.perf_counter()
    run.saver.finish()
    return state


def train_step(run: Run, micro_batches: list[DeviceBatch], step: int) -> StepResult:
    """Do one optimizer step.

    The ranks agree on the loss and the wish to stop before the weights are touched. Every target
    has the same weight in every step: the gradient is that of the sum of losses over the places for
    them.
    """
    engine = run.engine
    total = torch.zeros(
        3, dtype=torch.float64, device=engine.device
    )  # of losses, of targets, of squared gradients
    checksum = 0
    run.gradients.is_watching = is_measured(step, len(micro_batches) * run.groups.sizes.data)
    for i, batch in enumerate(micro_batches):
        is_last = i + 1 == len(micro_batches)
        engine.set_gradient_accumulation_boundary(
            is_last
        )  # its own count loses the boundary where the batch changes
        batch.wait()
        objective, losses = engine(batch.inputs, batch.targets, batch.positions)
        engine.backward(objective / losses.numel())  # divides by the accumulation steps
        total[0] += losses.sum(dtype=torch.float64)
        total[1] += (batch.targets != IGNORED).sum()
        checksum += batch.checksum
        if not is_last:
            engine.step()  # counts the micro-batch; weights change after the last one
    total[2] = run.gradients.take() / (loss_scale(engine) or 1.0) ** 2
    agreed = _agree(run, total, checksum)
    if engine.zero_optimization_stage() == 0:
        norm = float(clip_gradients(engine, run.config.optimizer.max_gradient_norm))
        if not np.isfinite([norm, agreed.loss]).all():
            engine.optimizer.zero_grad(set_to_none=True)  # without gradients a step changes nothing
            norm = np.nan
        engine.step()
    else:
        engine.step()  # leaves the weights as they are where the norm is not finite, on every rank
        norm = gradient_norm(engine)
        if np.isfinite(norm) and not np.isfinite(agreed.loss):
            raise NotFinite(
                f"the loss is {agreed.loss} at step {step} and its gradient a number: none of the "
                "guards can help. The "
                "checkpoints are those before it. Look at the model."
            )
    if np.isfinite(norm):
        return replace(agreed, grad_norm=norm)
    is_scalers = run.config.precision.dtype == "fp16" and np.isfinite(agreed.loss)
    return replace(agreed, is_made=is_scalers)


def _agree(run: Run, total: torch.Tensor, checksum: int) -> StepResult:
    """Add up, in one reduction, the totals `(3,) float64` and checksums of the data ranks, and the
    world ranks' wishes to stop.

    Each world rank's peak of memory has a place of its own in it, so that the sum holds them all.
    """
    sizes = run.groups.sizes
    assert sizes.data == sizes.world, "sums over samples would count some of them twice"
    # 64-bit checksums are added as two halves: sums of 32-bit numbers are exact in float64.
    halves = (checksum % 2**32, checksum // 2**32 % 2**32)
    peaks = [0.0] * sizes.world
    peaks[run.groups.world_rank] = float(_peak_memory_bytes(total.device))
    flags = [float(run.stop.requested), float(run.saver.has_written)]
    agreed = torch.cat([total, total.new_tensor([*flags, *halves, *peaks])])
    sum_over_world_ranks(agreed)
    loss, targets, micro_square, stops, written, low, high, *peaks = agreed.tolist()
    data_checksum = f"{(int(low) + (int(high) << 32)) % 2**64:016x}"
    saved = run.saver.is_pending and written == sizes.world
    return StepResult(
        loss / max(1.0, targets), stops > 0, saved, data_checksum, int(max(peaks)), micro_square
    )


def _noise_scale(run: Run, state: TrainState, result: StepResult) -> NoiseScale:
    """Return the running noise scale after a step; as it was where the step was not measured, or
    was skipped."""
    plan, step = run.config.step_plan, state.step + 1
    micro_batches = plan.samples(step) // run.config.batch.micro_batch_sequences
    if not is_measured(step, micro_batches) or result.grad_norm is None:
        return state.noise_scale
    accumulation, tokens = (
        micro_batches // run.groups.sizes.data,
        plan.tokens(step),
    )  # by the first DeepSpeed has divided the loss
    small = result.micro_square * accumulation**2 / micro_batches
    return state.noise_scale.after_step(small, tokens // micro_batches, result.grad_norm**2, tokens)


def _peak_memory_bytes(device: torch.device) -> int:
    """Return the most bytes of GPU memory since the last call, or of the process's memory since it
    began on a CPU."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts it in KiB
    peak = torch.cuda.max_memory_allocated(
        device
    )  # counters on the host: the device is not waited for
    torch.cuda.reset_peak_memory_stats(device)
    return peak


@torch.no_grad()
def probe(run: Run) -> dict[str, np.ndarray]:
    """Return fixed token ids `(1, positions)` and the engine's logits for them `(1, positions,
    vocabulary) float32`."""
    vocabulary = run.engine.module.config.vocab_size
    positions = min(PROBE_TOKENS, run.config.data.sequence_length)
    ids = torch.arange(1, positions + 1, device=run.engine.device)[None] * 7919 % vocabulary
    run.engine.eval()
    logits = run.engine(ids).float().cpu().numpy()
    run.engine.train()
    return {"input_ids": ids.cpu().numpy(), "logits": logits}


def _speed(run: Run, step: int, seconds: float, waited: float) -> dict[str, Any]:
    length, devices = run.config.step_plan.sequence_length(step), run.groups.sizes.world
    rate, per_token = run.config.step_plan.tokens(step) / seconds, run.size.flops_per_token(length)
    hfu = None
    if run.config.train.activation_checkpointing:
        hfu = flops_utilisation(
            rate, run.size.recomputing_flops_per_token(length), devices, run.peak_flops
        )
    return {
        "tokens_per_second": rate,
        "tflops": rate * per_token / devices / 1e12,
        "mfu": flops_utilisation(rate, per_token, devices, run.peak_flops),
        "hfu": hfu,
        "step_seconds": seconds,
        "data_wait_seconds": waited,
    }
