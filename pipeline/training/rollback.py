"""Roll a run back after trouble: choose a checkpoint, and record which samples to skip.

Writes a `rollback` event and a file of the skipped documents, and may remove checkpoints. Then the
ranks end; the supervisor starts them again from that checkpoint, without those samples.
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

MOST_DOCUMENTS_IN_EVENT = 50
"""Maximum number of document ids in the event itself; the file of the rollback lists all of them."""


def roll_back(run: Run, needed: RollbackNeeded) -> RolledBack:
    """Record a rollback for the next start of the ranks; return the job's outcome.

    Raises UserError on every rank where the run has rolled back `guard.max_rollbacks` times.
    """
    # A failed save has been reported already; earlier checkpoints remain.
    with suppress(UserError):
        run.saver.finish()
    outcome: RolledBack | Refused = call_on_rank_0(run.groups, _record, run, needed)
    if outcome["status"] == "refused":
        raise UserError(outcome["message"])
    return outcome


def _remove_suspected(saved: list[Path], needed: RollbackNeeded) -> list[Path]:
    """Remove the checkpoints with suspected weights; return the ones kept, oldest first.

    Removes none where the weights are not suspected, or where all checkpoints are.
    """
    if not needed.trouble.is_in_weights:
        return saved
    last_good_step = needed.step - needed.trouble.steps
    good = [path for path in saved if checkpoint_step(path) <= last_good_step]
    if not good or len(good) == len(saved):
        return saved
    write_latest(good[-1])
    for path in saved[len(good) :]:
        remove_checkpoint(path)
    return good


def step_before_first_checkpoint(run_dir: Path) -> int:
    """Return the step at which a run without a checkpoint of its own begins.

    0, but the other run's step for a branch that took `everything`.
    """
    branches: list[BranchEvent] = read_events(run_dir, BRANCH)
    continued = [event for event in branches if event["take"] == "everything"]
    if not continued:
        return 0
    return continued[-1]["lineage"][-1].get("step", 0)


def _record(run: Run, needed: RollbackNeeded) -> RolledBack | Refused:
    """Choose the checkpoint to roll back to and the samples to skip; write an event and a file.

    Returns a refusal where the run has rolled back too often.
    """
    config = run.config
    run_dir = config.paths.run_dir
    step = needed.step
    reason = f"step {step}: {needed.trouble.reason}"

    # Roll back to the newest checkpoint whose weights are not suspected.
    saved = _remove_suspected(complete_checkpoints(RunFolder(run_dir).checkpoints), needed)
    back_to = checkpoint_step(saved[-1]) if saved else step_before_first_checkpoint(run_dir)

    # Refuse where earlier rollbacks have not helped.
    times = len(read_events(run_dir, ROLLBACK))
    if times >= config.guard.max_rollbacks:
        message = (
            f"{reason}; the run has already rolled back {times} times (guard.max_rollbacks), the "
            f"newest checkpoint is from step {back_to}. Begin a new run, perhaps from a checkpoint "
            "(train.init_from), with a lower optimizer.peak_learning_rate or a longer "
            "schedule.warmup_tokens; or look at the documents that the rollback events name"
        )
        return {"status": "refused", "message": message}

    # Find the samples of the suspected steps, and the documents in them.
    suspected_steps = needed.trouble.steps
    first, end = suspected_samples(config, run.loader.data.order, step, suspected_steps, back_to)
    steps = range(max(step - suspected_steps, back_to) + 1, step + 1)
    traced, remark = _trace_steps(run, steps)
    rows = [row for traced_step in traced for row in traced_step["rows"]]
    documents = list(dict.fromkeys(part["id"] for row in rows for part in row["documents"]))

    # The file names all documents; the event, which the next start reads, the first of them.
    file = RunFolder(run_dir).rollback(step, times + 1)
    write_json(file, {"reason": reason, "samples": [first, end], "steps": traced})
    message = (
        f"{reason}: rolling back to step {back_to}, without samples {first:,} to {end - 1:,} "
        f"({len(documents):,} documents, listed in {file.relative_to(run_dir)}){remark}"
    )
    write_event(
        run_dir,
        ROLLBACK,
        step=step,
        to_step=back_to,
        reason=needed.trouble.reason,
        samples=[first, end],
        documents=documents[:MOST_DOCUMENTS_IN_EVENT],
        file=str(file.relative_to(run_dir)),
        message=message,
    )
    return {"status": "rolled back", "step": back_to}


def _trace_steps(run: Run, steps: range) -> tuple[list[TracedStep], str]:
    """Return the documents in the batches of some steps, and a remark for the event's message.

    The remark is empty unless some documents could not be read. The rollback skips the samples of
    all these steps in either case.
    """
    traced_run = TracedRun(run.config, run.loader.data, completed=0)
    traced: list[TracedStep] = []
    try:
        for step in steps:
            run.progress.heartbeat.beat(f"tracing step {step}")
            traced.append(trace_step(traced_run, step))
    except (OSError, ArrowException, UserError) as error:
        return traced, f"; not all documents could be named: {error}"
    return traced, ""
