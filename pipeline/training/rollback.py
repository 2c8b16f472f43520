"""Rolling a run back after trouble: what is recorded of it, and the samples that are skipped then.

The ranks end; the supervisor starts them again, and they go on from the newest checkpoint without
those samples.
"""

from contextlib import suppress
from pathlib import Path

from pyarrow import ArrowException

from pipeline.checkpoint.folders import complete_checkpoints, remove_checkpoint, write_latest
from pipeline.engine.agreement import call_on_rank_0
from pipeline.errors import UserError
from pipeline.sampling.trace import trace_step
from pipeline.sampling.trace_records import TracedStep
from pipeline.sampling.traced_run import TracedRun
from pipeline.store.events import BRANCH, ROLLBACK, BranchEvent, read_events, write_event
from pipeline.store.files import write_json
from pipeline.store.layout import RunFolder, checkpoint_step
from pipeline.store.outcome import Refused, RolledBack
from pipeline.training.guard import suspected_samples
from pipeline.training.loop import RollbackNeeded
from pipeline.training.run import Run

MOST_NAMED = 50
"""Documents in the event itself; all are in the file beside it."""


def roll_back(run: Run, needed: RollbackNeeded) -> RolledBack:
    """Record a rollback for the next start of the ranks; returns the job's outcome. Raises
    UserError, on every rank, where it happens too often."""
    with suppress(UserError):  # a save that failed has been said; there are those before it
        run.saver.finish()
    outcome: RolledBack | Refused = call_on_rank_0(run.groups, _record, run, needed)
    if outcome["status"] == "refused":
        raise UserError(outcome["message"])
    return outcome


def _trusted(saved: list[Path], needed: RollbackNeeded) -> list[Path]:
    """Remove the checkpoints with suspected weights, unless there are no others; returns those that
    stay, oldest first."""
    if not needed.trouble.is_in_weights:
        return saved
    good = [path for path in saved if checkpoint_step(path) <= needed.step - needed.trouble.steps]
    if not good or len(good) == len(saved):
        return saved
    write_latest(good[-1])
    for path in saved[len(good) :]:
        remove_checkpoint(path)
    return good


def begun_at(run_dir: Path) -> int:
    """Return the step at which a run without a checkpoint of its own begins: a branch may begin at
    its base's."""
    branches: list[BranchEvent] = read_events(run_dir, BRANCH)
    continued = [event for event in branches if event["take"] == "everything"]
    return continued[-1]["lineage"][-1].get("step", 0) if continued else 0


def _record(run: Run, needed: RollbackNeeded) -> RolledBack | Refused:
    """Choose the checkpoint to roll back to and the samples to skip, and write both down."""
    config = run.config
    run_dir = config.paths.run_dir
    step = needed.step
    reason = f"step {step}: {needed.trouble.reason}"

    # The newest checkpoint whose weights are not suspected.
    saved = _trusted(complete_checkpoints(RunFolder(run_dir).checkpoints), needed)
    back_to = checkpoint_step(saved[-1]) if saved else begun_at(run_dir)
    times = len(read_events(run_dir, ROLLBACK))
    if times >= config.guard.max_rollbacks:
        message = (
            f"{reason}; the run has gone back {times} times (guard.max_rollbacks), the newest "
            "checkpoint is that of step "
            f"{back_to}. Begin a new run, perhaps from a checkpoint (train.init_from), with a "
            "lower optimizer.peak_learning_rate "
            "or a longer schedule.warmup_tokens; or look at the documents that the rollback events "
            "name"
        )
        return {"status": "refused", "message": message}

    # The samples of the suspected steps, and the documents in them.
    suspected_steps = needed.trouble.steps
    first, end = suspected_samples(config, run.loader.data.order, step, suspected_steps, back_to)
    steps = range(max(step - suspected_steps, back_to) + 1, step + 1)
    traced, unread = _trace(run, steps)
    documents = list(
        dict.fromkeys(
            part["id"] for one in traced for row in one["rows"] for part in row["documents"]
        )
    )

    # All of it in a file, its beginning in the event that the next start reads.
    file = RunFolder(run_dir).rollback(step, times + 1)
    write_json(file, {"reason": reason, "samples": [first, end], "steps": traced})
    message = (
        f"{reason}: going back to step {back_to}, without samples {first:,} to {end - 1:,} "
        f"({len(documents):,} documents, in "
        f"{file.relative_to(run_dir)}){unread}"
    )
    write_event(
        run_dir,
        ROLLBACK,
        step=step,
        to_step=back_to,
        reason=needed.trouble.reason,
        samples=[first, end],
        documents=documents[:MOST_NAMED],
        file=str(file.relative_to(run_dir)),
        message=message,
    )
    return {"status": "rolled back", "step": back_to}


def _trace(run: Run, steps: range) -> tuple[list[TracedStep], str]:
    """Return which documents made some steps, and what to add to the message where not all could be
    read: their samples are skipped all the same."""
    traced_run = TracedRun(run.config, run.loader.data, completed=0)
    traced: list[TracedStep] = []
    try:
        for step in steps:
            run.progress.heartbeat.beat(f"tracing step {step}")
            traced.append(trace_step(traced_run, step))
    except (OSError, ArrowException, UserError) as error:
        return traced, f"; not all documents could be named: {error}"
    return traced, ""
