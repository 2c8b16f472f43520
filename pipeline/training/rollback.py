"""Rolling a run back after trouble: what is recorded of it, and the samples that are skipped then.

The ranks end; the supervisor starts them again, and they go on from the newest checkpoint without
those samples.
"""

from contextlib import suppress
from pathlib import Path

from pyarrow import ArrowException

from pipeline.checkpoint.folders import complete_checkpoints, point_to, remove
from pipeline.engine.agreement import from_rank_0
from pipeline.errors import UserError
from pipeline.sampling import trace
from pipeline.sampling.skipped import ROLLBACK
from pipeline.store.events import read_events, write_event
from pipeline.store.files import write_json
from pipeline.store.layout import RunFolder, checkpoint_step
from pipeline.store.outcome import Refused, RolledBack
from pipeline.training.guard import suspected_samples
from pipeline.training.loop import RollbackNeeded
from pipeline.training.new_run import BRANCH
from pipeline.training.run import Run

MOST_NAMED = 50
"""Documents in the event itself; all are in the file beside it."""


def roll_back(run: Run, trouble: RollbackNeeded) -> RolledBack:
    """Record a rollback for the next start of the ranks; returns the job's outcome. Raises
    UserError, on every rank, where it happens too often."""
    with suppress(UserError):  # a save that failed has been said; there are those before it
        run.saver.finish()
    outcome: RolledBack | Refused = from_rank_0(run.groups, _record, run, trouble)
    if outcome["status"] == "refused":
        raise UserError(outcome["message"])
    return outcome


def _trusted(saved: list[Path], trouble: RollbackNeeded) -> list[Path]:
    """Remove the checkpoints with suspected weights, unless there are no others; returns those that
    stay, oldest first."""
    if not trouble.trouble.is_in_weights:
        return saved
    good = [path for path in saved if checkpoint_step(path) <= trouble.step - trouble.trouble.steps]
    if not good or len(good) == len(saved):
        return saved
    point_to(good[-1])
    for path in saved[len(good) :]:
        remove(path)
    return good


def begun_at(run_dir: Path) -> int:
    """Return the step at which a run without a checkpoint of its own begins: a branch may begin at
    its base's."""
    branches = [event for event in read_events(run_dir, BRANCH) if event["take"] == "everything"]
    return branches[-1]["lineage"][-1]["step"] if branches else 0


def _record(run: Run, trouble: RollbackNeeded) -> RolledBack | Refused:
    config, run_dir, step = run.config, run.config.paths.run_dir, trouble.step
    reason = f"step {step}: {trouble.trouble.reason}"
    saved = _trusted(complete_checkpoints(RunFolder(run_dir).checkpoints), trouble)
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
    first, end = suspected_samples(
        config, run.loader.data.order, step, trouble.trouble.steps, back_to
    )
    steps = range(max(step - trouble.trouble.steps, back_to) + 1, step + 1)
    traced = trace.Run(config, run.loader.data, completed=0)
    read, unread = [], ""
    try:
        for number in steps:
            run.progress.heartbeat.beat(f"tracing step {number}")
            read.append(trace.trace_step(traced, number))
    except (OSError, ArrowException, UserError) as error:  # the samples are left out all the same
        unread = f"; not all documents could be named: {error}"
    file = RunFolder(run_dir).rollback(step, times + 1)
    write_json(file, {"reason": reason, "samples": [first, end], "steps": read})
    documents = list(
        dict.fromkeys(
            part["id"] for one in read for row in one["rows"] for part in row["documents"]
        )
    )
    message = (
        f"{reason}: going back to step {back_to}, without samples {first:,} to {end - 1:,} "
        f"({len(documents):,} documents, in "
        f"{file.relative_to(run_dir)}){unread}"
    )
    write_event(
        run_dir, ROLLBACK, step=step, to_step=back_to, reason=trouble.trouble.reason, samples=[first, end],
        documents=documents[:MOST_NAMED], file=str(file.relative_to(run_dir)), message=message,
    )  # fmt: skip
    return {"status": "rolled back", "step": back_to}
