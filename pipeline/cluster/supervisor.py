"""The `train` stage: start the ranks, watch them, pass signals on, start them again where they die
or hang.

Ranks write their own logs; what is shown here comes from metrics.jsonl, the same way on one machine
and on many nodes. Imports no torch.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from pipeline.cluster.launch import Launch, plan_launch
from pipeline.cluster.live_line import Course, LiveLine, course_so_far
from pipeline.cluster.ranks import Ranks, end_leftovers, refuse_if_taken_over
from pipeline.cluster.stall import StallWatch, keep_stacks
from pipeline.cluster.start_failures import Failure, common_failure
from pipeline.cluster.tail import Tail
from pipeline.cluster.time_limit import (
    GIVEN_UP,
    OUT_OF_TIME,
    TimeLimit,
    jobs_without_progress,
    tell_batch_script,
)
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.errors import DataError, Interrupted, UserError
from pipeline.logs import columns_for_detail, note, progress
from pipeline.sampling.outlook import look_ahead
from pipeline.store import heartbeat
from pipeline.store.artifacts import Result
from pipeline.store.counts import TrainCounts
from pipeline.store.events import FIRST_STEP, read_events, write_event
from pipeline.store.files import read_json, write_atomic, write_json
from pipeline.store.layout import RunFolder, manifest_path, run_folder
from pipeline.store.outcome import delete_outcome, has_outcome, read_outcome
from pipeline.store.records import CheckpointManifest

POLL_SECONDS = 0.2
HOSTS_SECONDS, ASK_AGAIN_SECONDS = 900.0, 5.0
"""Time for a host to come back that a run has had, and between asking it."""
LAUNCHER_GRACE_SECONDS = 15.0
"""Time for the launcher to notice that its ranks have ended."""
STACKS_SECONDS = 3.0
"""Time for hung ranks to write where they stand."""


class TrainingFailed(UserError):
    """Ranks crashed, were killed or hung, again and again; the message holds the end of a log."""

    exit_code = 1


class StopRequest:
    """What signals or the time limit have asked for, over all starts of the ranks."""

    count = 0
    """1: save and end. More: end at once."""
    is_out_of_time = False
    """Whether by a time limit: the supervisor's own, or SIGUSR1, with which a batch system warns of
    its."""
    has_stepped = False
    """Whether the present ranks have made a step, which they can finish and save."""
    _is_asked_to_end = False

    def take(self, number: int) -> None:
        """Take a signal. Who presses Ctrl-C once more wants the end at once; a batch system that
        warns, and then begins to end the job, does not: the save that the first signal began is
        what it gives time for."""
        is_once_more = number == signal.SIGINT or (
            number == signal.SIGTERM and self._is_asked_to_end
        )
        self.count = self.count + 1 if is_once_more else max(self.count, 1)
        self._is_asked_to_end |= number in (signal.SIGINT, signal.SIGTERM)
        self.is_out_of_time |= number == signal.SIGUSR1


def train(config: RunConfig) -> Result[TrainCounts]:
    """Run one training job to its end, starting the ranks again where they die or hang.

    Raises Interrupted after a signal, when the ranks have saved; UserError with the ranks' message
    where they refuse; TrainingFailed where they died `guard.max_restarts` times more without a new
    checkpoint.
    """
    began, run_dir = time.time(), config.paths.run_dir
    limit = TimeLimit(config, psutil.Process().create_time())
    _refuse_vain_chain(config)
    run_file = run_folder(config).config
    write_atomic(run_file, dump(config))
    outlook = look_ahead(config)
    write_json(run_folder(config).data_outlook, outlook)
    if scaled := scaled_learning_rate(config):
        note(f"train: {scaled}")
    with _stop_signals() as stop:
        try:
            _run_to_an_outcome(config, run_file, stop, limit, began)
        finally:
            if stop.is_out_of_time:
                tell_batch_script()
    outcome = read_outcome(run_dir)
    assert outcome is not None, "the ranks have been started until there is one"
    if outcome["status"] == "refused":
        raise UserError(outcome["message"])
    if outcome["status"] == "interrupted":
        raise Interrupted(
            f"saved at step {outcome['step']} of {config.total_steps}; run the same command again "
            "to go on"
        )
    assert outcome["status"] == "done", "after a rollback the ranks are started again"
    counts = outcome["counts"]
    assert counts is not None, "rank 0 writes the outcome of a run that is done"
    checkpoint = RunFolder(run_dir).checkpoints / counts["checkpoint"]
    manifest: CheckpointManifest | None = read_json(manifest_path(checkpoint))
    if manifest is None:
        raise DataError(f"{checkpoint}: has vanished after training")
    files = {f"{checkpoint.name}/{name}": record for name, record in manifest["files"].items()}
    return Result({**counts, "data": outlook}, files)


def _run_to_an_outcome(
    config: RunConfig, run_file: Path, stop: StopRequest, limit: TimeLimit, began: float
) -> None:
    """Start the ranks, again where they died, hung or went back, until an outcome says how the job
    ended."""
    run_dir, most = config.paths.run_dir, config.guard.max_restarts
    restarts, saves, is_again = 0, len(read_events(run_dir, "save")), False
    common: Failure | None = None
    while True:
        first_steps = len(read_events(run_dir, FIRST_STEP))
        failure, ranks = _start_once(config, run_file, stop, limit, began, is_again)
        is_again = True
        if failure is None:
            outcome = read_outcome(run_dir)
            assert outcome is not None, "a start that has not failed has left an outcome"
            if outcome["status"] != "rolled back":
                return
        if stop.count and not stop.has_stepped and not stop.is_out_of_time:
            raise Interrupted(
                "no step was made since the ranks began to start; run the same command again to go "
                "on"
            )
        if stop.count:
            why = f" ({failure.splitlines()[0]})" if failure and stop.count == 1 else ""
            raise Interrupted(
                f"ended without saving{why}; run the same command again to go on from the newest "
                "checkpoint"
            )
        if failure is None:  # so often at most as guard.max_rollbacks says
            continue
        has_stepped = len(read_events(run_dir, FIRST_STEP)) > first_steps
        before = common
        common = (
            None
            if has_stepped
            else common_failure([RunFolder(run_dir).rank_log(rank) for rank in range(ranks)])
        )
        if common is not None and common.comes_again(before):
            raise TrainingFailed(
                f"{failure}\nEvery rank ended there before its first step, and would end there "
                "again: not started again. The "
                f"traceback is a bug, or a setting that nothing has refused"
            )
        saved_before, saves = saves, len(read_events(run_dir, "save"))
        restarts = 0 if saves > saved_before else restarts
        if restarts == most:
            again = (
                f"started again {most} times without a new checkpoint (guard.max_restarts); "
                if most
                else ""
            )
            raise TrainingFailed(
                f"{failure}\n{again}run the same command again to go on from the newest checkpoint"
            )
        restarts += 1
        reason = failure.splitlines()[0]
        write_event(run_dir, "restart", reason=reason, number=restarts)
        note(f"train: {reason}; starting again from the newest checkpoint ({restarts} of {most})")


def _refuse_vain_chain(config: RunConfig) -> None:
    """Raise TrainingFailed where the jobs before have all run out of time without a new checkpoint,
    the next time not."""
    run_dir, jobs = config.paths.run_dir, jobs_without_progress(config.paths.run_dir)
    if jobs <= config.guard.max_restarts:
        return
    write_event(run_dir, GIVEN_UP, jobs=jobs)
    raise TrainingFailed(
        f"{jobs} jobs in a row ran out of time before a new checkpoint was complete: a job has to "
        "be longer than start-up, a "
        "step and a save together. Raise its time limit (sbatch --time, launch.time_limit), then "
        "run the same command again"
    )


def _start_once(
    config: RunConfig,
    run_file: Path,
    stop: StopRequest,
    limit: TimeLimit,
    began: float,
    is_again: bool,
) -> tuple[str | None, int]:
    """Start the ranks and watch them to their end; returns why there is no outcome, None where
    there is one, and how many ranks they were."""
    run_dir = config.paths.run_dir
    stop.has_stepped = False
    if is_again:
        refuse_if_taken_over(run_dir, None)
        if config.train.resume == "never":  # is said of what there was before this command
            config = config.model_copy(
                update={"train": config.train.model_copy(update={"resume": "auto"})}
            )
            write_atomic(run_file, dump(config))
    end_leftovers(run_file)
    delete_outcome(run_dir)
    logs = RunFolder(run_dir).logs
    for log in logs.glob("*.log"):
        log.replace(log.with_suffix(".previous"))
    heartbeat.delete_heartbeats(run_dir)
    launch = plan_launch(config, run_file)
    logs.mkdir(exist_ok=True)
    _wait_for_hosts(launch, limit, stop, HOSTS_SECONDS if is_again else 0.0)
    note(f"train: starting {launch.groups.world} {launch.where}; their logs are in {logs}")
    with Ranks(launch, run_dir, began) as ranks:
        stalled = _watch(
            config, ranks, StallWatch(run_dir, launch.groups.world, config.guard), limit, stop
        )
        if stalled:
            _show_where_they_hang(run_dir, ranks, launch.groups.world, stalled)
    if has_outcome(run_dir):
        return None, launch.groups.world
    return stalled or _why_it_failed(run_dir, ranks.process.returncode), launch.groups.world


def _wait_for_hosts(launch: Launch, limit: TimeLimit, stop: StopRequest, seconds: float) -> None:
    """Ask until all hosts answer, for as long as that. Raises UserError naming those that do not,
    Interrupted at a stop."""
    until, has_said = time.monotonic() + seconds, False
    while why := launch.kind.hosts_out_of_reach(launch):
        _look_at_time(limit, stop)
        if stop.count:
            raise Interrupted("not all hosts answer; run the same command again to go on")
        if time.monotonic() > until:
            raise UserError(
                f"{why}\nMend that, or take the host out of the hostfile; the same command goes on"
            )
        if not has_said:
            note(f"train: {why.splitlines()[0]}; waiting up to {seconds / 60:.0f} min")
            has_said = True
        time.sleep(ASK_AGAIN_SECONDS)


def _look_at_time(limit: TimeLimit, stop: StopRequest) -> None:
    if limit.is_near() and not stop.count:
        stop.count, stop.is_out_of_time = 1, True
        note(f"train: the time limit is {limit.margin:.0f} s away")


def _watch(
    config: RunConfig, ranks: Ranks, watch: StallWatch, limit: TimeLimit, stop: StopRequest
) -> str | None:
    """Show progress until the launcher ends, all ranks have ended without it, or none gets on: then
    says how they hang."""
    run = run_folder(config)
    outcome_seen, has_warned = None, False
    metrics, events = Tail(run.metrics), Tail(run.events)
    line, start = LiveLine(Course(), config.total_steps), config.total_steps
    with progress("train", config.step_plan.total_tokens, "tokens", has_bar=False) as update:
        has_ended = False
        while not has_ended:
            time.sleep(POLL_SECONDS)
            has_ended = (
                ranks.has_ended()
            )  # looked at first: what they said at their end is shown, too
            _look_at_time(limit, stop)
            if stop.is_out_of_time and not has_warned:
                has_warned = True
                write_event(config.paths.run_dir, OUT_OF_TIME)
            # Before a time limit there may still be time for a first step and its save.
            ranks.pass_on(stop.count, stop.has_stepped or stop.is_out_of_time)
            ranks.refuse_if_taken_over()
            records = metrics.new_records()
            happened = (
                events.new_records()
            )  # read later, so that the start of any step read is among them
            for event in happened:
                if (
                    event["event"] == "start"
                ):  # the steps after it have just been dropped from metrics.jsonl
                    line, start = (
                        LiveLine(course_so_far(run.path), config.total_steps),
                        event["step"],
                    )
            records = [record for record in records if record["step"] > start]
            for record in records:
                line.add(record)
                watch.saw_step(record["step_seconds"])
                limit.saw_step(record["step_seconds"], record.get("validation_seconds", 0.0))
            if records:
                stop.has_stepped = True
                update(records[-1]["tokens"], line.text(columns_for_detail("train")))
            for event in happened:
                if event["event"] == "save":
                    limit.saw_save(event["seconds"])
                if "message" in event:
                    note(f"train: {event['message']}")
            if outcome_seen is None and has_outcome(config.paths.run_dir):
                outcome_seen = time.monotonic()
            if (
                outcome_seen is not None
                and time.monotonic() - outcome_seen > LAUNCHER_GRACE_SECONDS
            ):
                return None
            if outcome_seen is None and not has_ended and (stalled := watch.stalled()):
                return stalled
    return None


def _show_where_they_hang(run_dir: Path, ranks: Ranks, count: int, stalled: str) -> None:
    heartbeat.request_stacks(run_dir)
    ranks.ask_for_stacks()
    time.sleep(STACKS_SECONDS)
    folder, silent = keep_stacks(run_dir, count, f"stacks_{time.strftime('%Y%m%d_%H%M%S')}")
    without = (
        f"; none from rank {', '.join(map(str, silent))}, which may be stopped, or its node gone"
        if silent
        else ""
    )
    message = f"{stalled}: ended. Where they stood is in {folder}{without}"
    write_event(run_dir, "stall", reason=stalled, stacks=folder.name, without=silent)
    note(f"train: {message}")


def scaled_learning_rate(config: RunConfig) -> str | None:
    """Say what `optimizer.learning_rate_scaling` did, None where it is not set."""
    scaling = config.optimizer.learning_rate_scaling
    if scaling is None:
        return None
    peak, factor = config.optimizer.peak_learning_rate, config.learning_rate_factor
    return (
        f"learning rate {peak:.4g} x {factor:.4g} ({scaling.rule}, batch "
        f"{config.batch.global_batch_tokens:,} of reference "
        f"{scaling.reference_batch_tokens:,} tokens) = {peak * factor:.4g}"
    )


@contextmanager
def _stop_signals() -> Iterator[StopRequest]:
    """Count SIGINT, SIGTERM, SIGUSR1 and, of a terminal that is closed, SIGHUP as requests to
    stop."""
    stop = StopRequest()

    def handler(number: int, frame: FrameType | None) -> None:
        stop.take(number)

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _tracebacks(run_dir: Path) -> list[Path]:
    """Return the logs of ranks that crashed."""
    return [
        log
        for log in RunFolder(run_dir).rank_logs()
        if "Traceback (most recent call last)" in log.read_text(errors="replace")
    ]


def _why_it_failed(run_dir: Path, code: int | None) -> str:
    """Return the end of the log that explains it: the first rank with a traceback, else the
    launcher."""
    log = [*_tracebacks(run_dir), RunFolder(run_dir).launcher_log][0]
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
    return f"a rank ended without a result (launcher's exit code {code})\nThe end of {log}:\n{tail}"
