"""The `train` stage: start the ranks, watch them, and start them again if they die or hang.

Writes the run file, the outlook and events of the run folder; the ranks write everything else.
Imports no torch.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.launch import LaunchPlan, plan_launch
from pipeline.cluster.ranks import Ranks, end_leftovers, refuse_if_taken_over
from pipeline.cluster.stall import StallWatch, keep_stacks
from pipeline.cluster.start_failures import TRACEBACK, StartFailure, common_failure
from pipeline.cluster.stop_request import StopRequest, stop_signals
from pipeline.cluster.time_limit import (
    GIVEN_UP,
    TimeLimit,
    jobs_without_progress,
    tell_batch_script,
)
from pipeline.cluster.warm.forkable_ranks import ForkableRanks
from pipeline.cluster.watch import watch_ranks
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.errors import DataError, Interrupted, UserError
from pipeline.logs import note
from pipeline.sampling.outlook import look_ahead
from pipeline.store import heartbeat
from pipeline.store.artifacts import Result
from pipeline.store.counts import DataOutlook, TrainCounts
from pipeline.store.events import FIRST_STEP, read_events, write_event
from pipeline.store.files import read_json, write_atomic, write_json
from pipeline.store.layout import RunFolder, data_folder, manifest_path, run_folder
from pipeline.store.outcome import Outcome, delete_outcome, has_outcome, read_outcome
from pipeline.store.processes import beginning_of_this_process
from pipeline.store.records import CheckpointManifest
from pipeline.tokens.shards.shard_table import keep_shard_table
from pipeline.work.warm.warm_python import WarmProcessEnded

HOSTS_SECONDS = 900.0
"""Time for a host that the run has used to come back."""
ASK_AGAIN_SECONDS = 5.0
"""Time between two attempts to reach the hosts."""
STACKS_SECONDS = 3.0
"""Time for hung ranks to write their stacks."""
LAST_LINES = 25
"""Lines at the end of a log that a message repeats."""


class TrainingFailed(UserError):
    """Ranks crashed, were killed or hung repeatedly; the message holds the end of a log."""

    exit_code = 1


@dataclass(frozen=True)
class TrainingJob:
    """One invocation of the training stage, including every restart of its ranks."""

    config: RunConfig
    run_file: Path
    """Run file that the ranks read, in the run folder."""
    stop: StopRequest
    limit: TimeLimit
    forkable: ForkableRanks
    """What forks the ranks, where they can be forked."""
    began: float
    """When the stage began, in seconds of the epoch."""


def run_training_job(config: RunConfig) -> Result[TrainCounts]:
    """Run one training job to its end, starting the ranks again if they die or hang.

    Raises Interrupted after a signal, when the ranks have saved; UserError with the message of the
    ranks if they refuse; TrainingFailed if they died after `guard.max_restarts` restarts without a
    new checkpoint.
    """
    began = time.time()
    limit = TimeLimit(config, beginning_of_this_process())
    _refuse_vain_chain(config)

    # Everything that ranks read is written before they start.
    run_file = run_folder(config).config
    write_atomic(run_file, dump(config))
    keep_shard_table(data_folder(config).tokens)
    outlook = look_ahead(config)
    write_json(run_folder(config).data_outlook, outlook)
    scaled = scaled_learning_rate(config)
    if scaled is not None:
        note(f"train: {scaled}")

    with stop_signals() as stop, ForkableRanks(config) as forkable:
        try:
            _run_to_an_outcome(TrainingJob(config, run_file, stop, limit, forkable, began))
        finally:
            if stop.is_out_of_time:
                tell_batch_script()
    outcome = read_outcome(config.paths.run_dir)
    assert outcome is not None, "the ranks are started until there is an outcome"
    return _result_of(config, outcome, outlook)


def _result_of(config: RunConfig, outcome: Outcome, outlook: DataOutlook) -> Result[TrainCounts]:
    """Return the result of a run that is done. Raises UserError or Interrupted for other outcomes."""
    if outcome["status"] == "refused":
        raise UserError(outcome["message"])
    if outcome["status"] == "interrupted":
        raise Interrupted(
            f"saved at step {outcome['step']} of {config.total_steps}; run the same command again "
            "to resume"
        )
    assert outcome["status"] == "done", "after a rollback the ranks are started again"
    counts = outcome["counts"]
    assert "checkpoint" in counts, "rank 0 writes the outcome of a run that is done"
    checkpoint = run_folder(config).checkpoints / counts["checkpoint"]
    manifest: CheckpointManifest | None = read_json(manifest_path(checkpoint))
    if manifest is None:
        raise DataError(f"{checkpoint}: has vanished after training")
    files = {f"{checkpoint.name}/{name}": record for name, record in manifest["files"].items()}
    return Result({**counts, "data": outlook}, files)


def _run_to_an_outcome(job: TrainingJob) -> None:
    """Start the ranks, again if they fail, until an outcome records how the job ended.

    They are started again after a rollback, and after they died or hung.
    """
    run_dir = job.config.paths.run_dir
    most = job.config.guard.max_restarts
    restarts = 0
    saves = len(read_events(run_dir, "save"))
    is_again = False
    last_crash: StartFailure | None = None
    while True:
        first_steps = len(read_events(run_dir, FIRST_STEP))
        failure, ranks = _start_once(job, is_again)
        is_again = True

        # An outcome other than a rollback, or a request to stop, ends the job.
        if failure is None and not _has_rolled_back(run_dir):
            return
        if job.stop.count:
            raise _interrupted(job.stop, failure)
        # Ranks start again after every rollback: guard.max_rollbacks bounds their number.
        if failure is None:
            continue

        # A crash of all ranks at one place before their first step may be one that repeats.
        crash: StartFailure | None = None
        if len(read_events(run_dir, FIRST_STEP)) == first_steps:
            crash = common_failure([RunFolder(run_dir).rank_log(rank) for rank in range(ranks)])
        if crash is not None and crash.comes_again(last_crash):
            raise TrainingFailed(
                f"{failure}\nEvery rank failed at this place before its first step, and would fail "
                "there again: not started again. The traceback shows a bug, or a wrong setting that "
                "no check found"
            )
        last_crash = crash

        # Restarts are counted from the newest checkpoint on.
        saves_before = saves
        saves = len(read_events(run_dir, "save"))
        if saves > saves_before:
            restarts = 0
        if restarts == most:
            raise _restarted_in_vain(failure, most)
        restarts += 1
        reason = failure.splitlines()[0]
        write_event(run_dir, "restart", reason=reason, number=restarts)
        note(f"train: {reason}; starting again from the newest checkpoint ({restarts} of {most})")


def _has_rolled_back(run_dir: Path) -> bool:
    outcome = read_outcome(run_dir)
    assert outcome is not None, "a start that has not failed has left an outcome"
    return outcome["status"] == "rolled back"


def _interrupted(stop: StopRequest, failure: str | None) -> Interrupted:
    """Return the message for a job that was stopped without a save."""
    if not stop.has_stepped and not stop.is_out_of_time:
        return Interrupted(
            "stopped before the ranks made a step; run the same command again to continue"
        )
    why = ""
    if failure is not None and stop.count == 1:
        why = f" ({failure.splitlines()[0]})"
    return Interrupted(
        f"ended without saving{why}; run the same command again to resume from the newest "
        "checkpoint"
    )


def _restarted_in_vain(failure: str, restarts: int) -> TrainingFailed:
    again = ""
    if restarts:
        again = f"started again {restarts} times without a new checkpoint (guard.max_restarts); "
    return TrainingFailed(
        f"{failure}\n{again}run the same command again to resume from the newest checkpoint"
    )


def _refuse_vain_chain(config: RunConfig) -> None:
    """Raise TrainingFailed if the last jobs all ran out of time without a new checkpoint.

    The event that is written then makes the next call try again.
    """
    run_dir = config.paths.run_dir
    jobs = jobs_without_progress(run_dir)
    if jobs <= config.guard.max_restarts:
        return
    write_event(run_dir, GIVEN_UP, jobs=jobs)
    raise TrainingFailed(
        f"{jobs} jobs in a row ran out of time before a new checkpoint was complete: a job must be "
        "longer than start-up, one step and one save together. Raise its time limit (sbatch "
        "--time, launch.time_limit), then run the same command again"
    )


def _start_once(job: TrainingJob, is_again: bool) -> tuple[str | None, int]:
    """Start the ranks, and watch them until they have ended.

    `is_again`: whether they were started before by this command, so that they have to resume.
    Returns the reason why no rank wrote an outcome (None if one did), and the number of ranks.
    """
    config = job.config
    run_dir = config.paths.run_dir
    job.stop.has_stepped = False
    if is_again:
        refuse_if_taken_over(run_dir, None)
        config = _resuming(config, job.run_file)

    # Nothing of an earlier start is left: processes, outcome, logs, heartbeats.
    end_leftovers(job.run_file)
    delete_outcome(run_dir)
    logs = RunFolder(run_dir).logs
    for log in logs.glob("*.log"):
        log.replace(log.with_suffix(".previous"))
    heartbeat.delete_heartbeats(run_dir)

    # A request to stop need not wait for imports; near a time limit there may be time for a step.
    launcher_began = time.time()
    job.forkable.prepare(lambda: _must_end(job.stop, job.limit))
    if _must_end(job.stop, job.limit):
        return "stopped before the ranks were started", 0

    # Hosts that a first start cannot reach are an error at once; later ones may be rebooting.
    launch = plan_launch(config, job.run_file)
    count = launch.groups.world
    logs.mkdir(exist_ok=True)
    patience = 0.0
    if is_again:
        patience = HOSTS_SECONDS
    _wait_for_hosts(launch, job.limit, job.stop, patience)

    note(f"train: starting {count} {launch.where}; their logs are in {logs}")
    stall = StallWatch(run_dir, count, config.guard)
    began = (job.began, launcher_began)
    try:
        with Ranks(launch, run_dir, began) as ranks:
            stalled = watch_ranks(config, ranks, stall, job.limit, job.stop)
            if stalled is not None:
                _keep_stacks_of_hung_ranks(run_dir, ranks, count, stalled)
    except WarmProcessEnded as error:
        job.forkable.give_up(str(error))
        return str(error), count
    if has_outcome(run_dir):
        return None, count
    return stalled or _why_it_failed(run_dir, ranks.process.returncode), count


def _must_end(stop: StopRequest, limit: TimeLimit) -> bool:
    """Tell whether the job was asked to end, and not only to save as its time is nearly over."""
    stop.take_time(limit)
    return stop.count > 1 or (stop.count == 1 and not stop.is_out_of_time)


def _resuming(config: RunConfig, run_file: Path) -> RunConfig:
    """Return the config for another start of the ranks, and write it for them.

    `train.resume = never` concerns checkpoints from before this job, not those that it made.
    """
    if config.train.resume != "never":
        return config
    section = config.train.model_copy(update={"resume": "auto"})
    resuming = config.model_copy(update={"train": section})
    write_atomic(run_file, dump(resuming))
    return resuming


def _wait_for_hosts(
    launch: LaunchPlan, limit: TimeLimit, stop: StopRequest, seconds: float
) -> None:
    """Wait until all hosts answer, for `seconds` at most.

    Raises UserError naming the hosts that do not answer, and Interrupted at a request to stop.
    """
    until = time.monotonic() + seconds
    has_reported = False
    while True:
        why = launch.kind.hosts_out_of_reach(launch)
        if why is None:
            return
        stop.take_time(limit)
        if stop.count:
            raise Interrupted(
                f"stopped while waiting for hosts: {why.splitlines()[0]}; run the same command again "
                "to continue"
            )
        if time.monotonic() > until:
            raise UserError(
                f"{why}\nRepair this, or remove the host from the hostfile; then run the same "
                "command again"
            )
        if not has_reported:
            note(f"train: {why.splitlines()[0]}; waiting up to {seconds / 60:.0f} min")
            has_reported = True
        time.sleep(ASK_AGAIN_SECONDS)


def _keep_stacks_of_hung_ranks(run_dir: Path, ranks: Ranks, count: int, stalled: str) -> None:
    """Have hung ranks write their stacks, keep these, and report where they are."""
    heartbeat.request_stacks(run_dir)
    ranks.ask_for_stacks()
    time.sleep(STACKS_SECONDS)
    name = f"stacks_{time.strftime('%Y%m%d_%H%M%S')}"
    folder, silent = keep_stacks(run_dir, count, name)
    missing = ""
    if silent:
        missing = (
            f"; none from rank {', '.join(map(str, silent))}, which may be stopped or on a node "
            "that failed"
        )
    write_event(run_dir, "stall", reason=stalled, stacks=folder.name, without=silent)
    note(f"train: {stalled}: ending all ranks. Their stacks are in {folder}{missing}")


def scaled_learning_rate(config: RunConfig) -> str | None:
    """Return a line on what `optimizer.learning_rate_scaling` did, None if it is not set."""
    scaling = config.optimizer.learning_rate_scaling
    if scaling is None:
        return None
    peak = config.optimizer.peak_learning_rate
    factor = config.learning_rate_factor
    return (
        f"learning rate {peak:.4g} x {factor:.4g} ({scaling.rule}, batch "
        f"{config.batch.global_batch_tokens:,} of reference "
        f"{scaling.reference_batch_tokens:,} tokens) = {peak * factor:.4g}"
    )


def _tracebacks(run_dir: Path) -> list[Path]:
    """Return the logs of ranks that crashed."""
    return [
        log
        for log in RunFolder(run_dir).rank_logs()
        if TRACEBACK in log.read_text(errors="replace")
    ]


def _why_it_failed(run_dir: Path, code: int | None) -> str:
    """Return the end of the log of the first rank with a traceback, else of the launcher's log."""
    log = [*_tracebacks(run_dir), RunFolder(run_dir).launcher_log][0]
    end = "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
    return f"a rank ended without a result (launcher's exit code {code})\nThe end of {log}:\n{end}"
