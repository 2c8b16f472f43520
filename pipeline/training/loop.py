"""The training loop, run by every rank: step, log, validate, save, stop."""

import time

import numpy as np
import torch

from pipeline.checkpoint.retention import is_save_due
from pipeline.checkpoint.state import GuardState, TrainState
from pipeline.config.schedules import learning_rate
from pipeline.engine.engine import loss_scale
from pipeline.engine.optimizers.parameter_groups import set_learning_rate
from pipeline.store.events import write_event
from pipeline.store.metrics import SampleFigures, StepFacts, StepRecord, ValidationFigures
from pipeline.training.guard import Trouble, apply_guards, starts_new_level
from pipeline.training.run import Run
from pipeline.training.sample_fit import sample_figures
from pipeline.training.source_losses import source_figures
from pipeline.training.train_step import StepResult, noise_scale_after, train_step
from pipeline.training.validation import validate_held_out

PROBE_TOKENS = 32
"""Token ids in the probe that each checkpoint keeps with its logits."""


class RollbackNeeded(Exception):
    """The run has to roll back to a checkpoint. Raised on every rank after the same step."""

    def __init__(self, step: int, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.step = step
        self.trouble = trouble


def run_training_loop(run: Run, state: TrainState) -> TrainState:
    """Train from `state` to the last step or a request to stop; return the state that was saved.

    Raises RollbackNeeded or LossNotFinite on every rank at the same step.
    """
    config = run.config
    plan = config.step_plan
    names = run.loader.data.order.names
    waited_from = time.perf_counter()
    for micro_batches in run.loader:
        started = time.perf_counter()
        step = state.step + 1
        is_last = step == plan.total_steps

        # Step: the schedule's learning rate, the ramp's batch.
        rate = learning_rate(config, step)
        set_learning_rate(run.engine, rate)
        run.engine.set_train_batch_size(plan.samples(step))
        result = train_step(run, micro_batches, step)

        # Apply the guards to the agreed figures, so that every rank decides alike.
        guard, trouble = _guard_step(run, state, result)
        noise_scale = noise_scale_after(run, state, result)
        state = state.after_step(plan.tokens(step), noise_scale, guard)

        # Log it.
        ended = time.perf_counter()
        seconds = ended - waited_from
        record: StepRecord = {
            **_step_facts(run, state, result, rate),
            **source_figures(names, result.group_nats, result.group_targets),
            **run.cost.speed(plan.tokens(step), seconds, plan.sequence_length(step)),
            "step_seconds": seconds,
            "data_wait_seconds": started - waited_from,
            "unix_time": round(time.time(), 3),
        }
        run.progress.heartbeat.beat(f"step {step} done")

        # Validate, unless a rollback is about to discard the weights.
        if not trouble and (is_last or step % config.train.validate_every_steps == 0):
            figures, fit = _validate(run)
            record = {**record, **figures, **fit}
            record["validation_seconds"] = time.perf_counter() - ended
        _write(run, record)
        if trouble:
            raise RollbackNeeded(step, trouble)

        # Publish the pending checkpoint once all ranks have written it; begin the next one.
        if result.saved:
            run.saver.publish()
        if is_last or result.stop or is_save_due(step, config.checkpoint):
            run.saver.save(state, probe_logits(run))

        # Stop.
        if result.stop and not is_last:
            break
        waited_from = time.perf_counter()
    run.saver.finish()
    return state


def _guard_step(
    run: Run, state: TrainState, result: StepResult
) -> tuple[GuardState, Trouble | None]:
    """Apply the guards to the step that follows `state`; return their new state, and any trouble.

    Writes an event where the update was not made.
    """
    config = run.config
    step = state.step + 1
    before = state.guard
    if starts_new_level(config, run.loader.data.order, step):
        before = GuardState()
    if not result.is_made and run.groups.is_rank_0:
        write_event(
            config.paths.run_dir,
            "update not made",
            step=step,
            loss=result.finite_loss,
            message=f"step {step}: loss or gradient is not finite; its update is not made",
        )
    return apply_guards(before, result.finite_loss, result.is_made, config.guard)


def _step_facts(run: Run, state: TrainState, result: StepResult, rate: float) -> StepFacts:
    """Return the fields of a completed step's record in metrics.jsonl, without its speed."""
    return {
        "step": state.step,
        "tokens": state.tokens,
        "loss": result.finite_loss,
        "grad_norm": result.grad_norm,
        "learning_rate": rate,
        "data_checksum": result.data_checksum,
        "peak_memory_bytes": result.peak_memory_bytes,
        "loss_scale": loss_scale(run.engine),
        "gradient_noise_scale_tokens": state.noise_scale.tokens,
    }


def _validate(run: Run) -> tuple[ValidationFigures, SampleFigures]:
    """Measure the held-out loss; with `data.small_sample` also the fit to the training rows."""
    micro_batch = run.config.batch.micro_batch_sequences
    heartbeat = run.progress.heartbeat
    figures = validate_held_out(run.engine, run.groups, run.held_out, micro_batch, heartbeat)
    if run.sample is None:
        return figures, {}
    sample = run.sample
    fit = sample_figures(run.engine, run.groups, sample, run.held_out, micro_batch, heartbeat)
    return figures, fit


def _write(run: Run, record: StepRecord) -> None:
    """Write a step's record to metrics.jsonl and to the trackers."""
    if run.progress.metrics is not None:
        run.progress.metrics.write(record)
        run.progress.times.first_step(run.config.paths.run_dir)
    run.progress.trackers.write(record)


@torch.no_grad()
def probe_logits(run: Run) -> dict[str, np.ndarray]:
    """Run fixed token ids through the engine; every rank calls it.

    Returns `input_ids` `(1, positions) int64` and `logits` `(1, positions, vocabulary) float32`.
    """
    vocabulary = run.engine.module.config.vocab_size
    positions = min(PROBE_TOKENS, run.config.data.sequence_length)
    ids = torch.arange(1, positions + 1, device=run.engine.device)[None] * 7919 % vocabulary
    run.engine.eval()
    logits = run.engine(ids).float().cpu().numpy()
    run.engine.train()
    return {"input_ids": ids.cpu().numpy(), "logits": logits}
