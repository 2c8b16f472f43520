"""The training loop, run by every rank: step, log, validate, save, stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pipeline.config import RunConfig
from pipeline.errors import UserError
from pipeline.sampling.batches import IGNORED
from pipeline.sampling.loader import Loader
from pipeline.training import checkpoint
from pipeline.training.checkpoint import TrainState
from pipeline.training.costs import model_flops_utilisation
from pipeline.training.device_batch import DeviceBatch
from pipeline.training.engine import Engine, clip_gradients, gradient_norm
from pipeline.training.metrics import MetricsFile, write_event
from pipeline.training.optimizer import set_learning_rate
from pipeline.training.schedules import learning_rate
from pipeline.training.start_up import StartUp
from pipeline.training.stop import StopSignal
from pipeline.training.validation import HeldOut, validate

PROBE_TOKENS = 32


class NotFinite(UserError):
    """The loss or the gradient is not a number; nothing was written after the last checkpoint."""


@dataclass(frozen=True)
class Run:
    """What the loop works with; nothing in it changes but the engine's weights."""

    config: RunConfig
    engine: Engine
    loader: Loader[DeviceBatch]
    held_out: HeldOut
    stop: StopSignal
    metrics: MetricsFile | None
    """Only rank 0 writes."""
    start_up: StartUp
    flops_per_token: Callable[[int], float]
    """Of the sequence length."""
    peak_flops: float | None


def train(run: Run, state: TrainState) -> TrainState:
    """Train from `state` to the end, or until told to stop; the returned state has been saved.

    Raises NotFinite on every rank at the same step.
    """
    config, plan, waited_from = run.config, run.config.step_plan, time.perf_counter()
    for micro_batches in run.loader:
        started = time.perf_counter()
        step = state.step + 1
        rate = learning_rate(config, step)
        set_learning_rate(run.engine, rate)
        run.engine.set_train_batch_size(plan.samples(step))
        loss, norm, stop, checksum = train_step(run, micro_batches, step)
        state = state.after_step(plan.tokens(step))
        is_last = state.step == plan.total_steps
        now = time.perf_counter()
        record = {"step": state.step, "tokens": state.tokens, "loss": loss, "grad_norm": norm, "learning_rate": rate}
        record |= {"data_checksum": checksum}
        record |= _speed(run, step, seconds=now - waited_from, waited=started - waited_from)
        if is_last or state.step % config.train.validate_every_steps == 0:
            overall, by_source = validate(run.engine, run.held_out, config.batch.micro_batch_sequences)
            record |= {"validation_loss": overall, "validation_loss_by_source": by_source}
        if run.metrics:
            run.metrics.write(record)
            run.start_up.first_step(config.paths.run_dir)
        if is_last or stop or state.step % config.checkpoint.save_every_steps == 0:
            save(run, state)
        if stop and not is_last:
            break
        waited_from = time.perf_counter()
    return state


def train_step(run: Run, micro_batches: list[DeviceBatch], step: int) -> tuple[float, float | None, bool, str]:
    """Do one optimizer step.

    Returns the mean loss in nats over the targets of the global batch, the gradient norm, whether to stop, and the
    checksum of what was read. The ranks agree on the loss and the wish to stop before the weights are touched.
    Every target has the same weight in every step: the gradient is that of the sum of losses over the places for them.
    """
    engine = run.engine
    total = torch.zeros(2, dtype=torch.float64, device=engine.device)
    checksum = 0
    for i, batch in enumerate(micro_batches):
        is_last = i + 1 == len(micro_batches)
        engine.set_gradient_accumulation_boundary(is_last)  # its own count loses the boundary where the batch changes
        batch.wait()
        objective, losses = engine(batch.inputs, batch.targets, batch.positions)
        engine.backward(objective / losses.numel())  # divides by the accumulation steps
        total[0] += losses.sum(dtype=torch.float64)
        total[1] += (batch.targets != IGNORED).sum()
        checksum += batch.checksum
        if not is_last:
            engine.step()  # counts the micro-batch; weights change after the last one
    mean, stop, data_checksum = _agree(total, run.stop.requested, checksum)
    if not np.isfinite(mean):
        raise NotFinite(_not_finite("loss", mean, step))
    if engine.zero_optimization_stage() == 0:
        norm = float(clip_gradients(engine, run.config.optimizer.max_gradient_norm))
        if not np.isfinite(norm):
            raise NotFinite(_not_finite("gradient norm", norm, step))
        engine.step()
    else:
        engine.step()  # leaves the weights as they are where the norm is not finite, on every rank
        norm = gradient_norm(engine)
        if not np.isfinite(norm):
            if run.config.precision.dtype != "fp16":
                raise NotFinite(_not_finite("gradient norm", norm, step))
            norm = None  # the loss scaler has skipped the step
    return mean, norm, stop, data_checksum


def _agree(total: torch.Tensor, stop: bool, checksum: int) -> tuple[float, bool, str]:
    """Add up over the ranks, in one reduction, the losses and their number `(2,) float64`, wishes to stop, checksums."""
    # 64-bit checksums are added as two halves: sums of 32-bit numbers are exact in float64.
    halves = (checksum % 2**32, checksum // 2**32 % 2**32)
    agreed = torch.cat([total, total.new_tensor([float(stop), *halves])])
    dist.all_reduce(agreed)
    loss, targets, stops, low, high = agreed.tolist()
    return loss / max(1.0, targets), stops > 0, f"{(int(low) + (int(high) << 32)) % 2**64:016x}"


def save(run: Run, state: TrainState) -> None:
    """Write a checkpoint with the engine's logits for a few tokens."""
    started = time.perf_counter()
    path = checkpoint.save(
        run.engine, state, run.config.paths.run_dir / "checkpoints", run.config.checkpoint.keep_last, probe(run)
    )
    if run.metrics:
        seconds = round(time.perf_counter() - started, 3)
        write_event(run.config.paths.run_dir, "save", step=state.step, checkpoint=path.name, seconds=seconds)


@torch.no_grad()
def probe(run: Run) -> dict[str, np.ndarray]:
    """Return fixed token ids `(1, positions)` and the engine's logits for them `(1, positions, vocabulary) float32`."""
    vocabulary = run.engine.module.config.vocab_size
    positions = min(PROBE_TOKENS, run.config.data.sequence_length)
    ids = torch.arange(1, positions + 1, device=run.engine.device)[None] * 7919 % vocabulary
    run.engine.eval()
    logits = run.engine(ids).float().cpu().numpy()
    run.engine.train()
    return {"input_ids": ids.cpu().numpy(), "logits": logits}


def _speed(run: Run, step: int, seconds: float, waited: float) -> dict[str, Any]:
    plan = run.config.step_plan
    rate, per_token = plan.tokens(step) / seconds, run.flops_per_token(plan.sequence_length(step))
    mfu = model_flops_utilisation(rate, per_token, dist.get_world_size(), run.peak_flops)
    return {"tokens_per_second": rate, "mfu": mfu, "step_seconds": seconds, "data_wait_seconds": waited}


def _not_finite(what: str, value: float, step: int) -> str:
    return (
        f"the {what} is {value} at step {step}. The checkpoints are those before it. Lower optimizer.peak_learning_rate, "
        "lengthen schedule.warmup_tokens, or use precision.dtype = bf16 or fp32 instead of fp16."
    )
