"""The `train` stage: start the ranks, watch them, pass signals on, leave nothing behind.

Ranks write their own logs; what is shown here comes from metrics.jsonl, the same way on one machine and on many nodes.
Imports no torch.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from pipeline.artifacts import Result, read_json, write_atomic, write_json
from pipeline.cluster.launch import WORKER, Launch, plan_launch
from pipeline.cluster.live_line import LiveLine, course_so_far
from pipeline.config import RunConfig
from pipeline.errors import DataError, Interrupted, UserError
from pipeline.lease import process_start_time
from pipeline.logs import columns_for_detail, note, progress
from pipeline.run_file import dump
from pipeline.sampling.outlook import look_ahead

DATA_OUTLOOK = "data.json"
"""File in the run folder: tokens, epochs, cut documents and padding of each source."""
POLL_SECONDS = 0.2
LAUNCHER_GRACE_SECONDS = 15.0
"""Time for the launcher to notice that its ranks have ended."""


class TrainingFailed(UserError):
    """A rank crashed or was killed; the message holds the end of its log."""

    exit_code = 1


def train(config: RunConfig) -> Result:
    """Run one training job to its end.

    Raises Interrupted after a signal, when the ranks have saved; UserError with the ranks' message where they refuse;
    TrainingFailed where one of them died.
    """
    began, run_dir = time.time(), config.paths.run_dir
    run_file = run_dir / "config.yaml"
    write_atomic(run_file, dump(config))
    outlook = look_ahead(config)
    write_json(run_dir / DATA_OUTLOOK, outlook)
    (run_dir / "outcome.json").unlink(missing_ok=True)
    for log in (run_dir / "logs").glob("*.log"):
        log.replace(log.with_suffix(".previous"))
    launch = plan_launch(config, run_file)
    (run_dir / "logs").mkdir(exist_ok=True)
    note(f"train: starting {launch.ranks} {launch.device} ranks; their logs are in {run_dir / 'logs'}")
    if scaled := scaled_learning_rate(config):
        note(f"train: {scaled}")
    with _Ranks(launch, run_dir, began) as ranks, _stop_signals(ranks):
        _watch(config, ranks)
    outcome = read_json(run_dir / "outcome.json")
    if outcome is None:
        if ranks.killed or (ranks.stop_requested and not _tracebacks(run_dir)):
            raise Interrupted("before the first new checkpoint; run the same command again to go on")
        raise TrainingFailed(_why_it_failed(run_dir, ranks.process.returncode))
    if outcome["status"] == "refused":
        raise UserError(outcome["message"])
    if outcome["status"] == "interrupted":
        raise Interrupted(
            f"saved at step {outcome['step']} of {config.total_steps}; run the same command again to go on"
        )
    checkpoint = outcome["counts"]["checkpoint"]
    manifest = read_json(run_dir / "checkpoints" / checkpoint / "manifest.json")
    if manifest is None:
        raise DataError(f"{run_dir / 'checkpoints' / checkpoint}: has vanished after training")
    files = {f"{checkpoint}/{name}": record for name, record in manifest["files"].items()}
    return Result({**outcome["counts"], "data": outlook}, files)


def scaled_learning_rate(config: RunConfig) -> str | None:
    """Say what `optimizer.learning_rate_scaling` did, None where it is not set."""
    scaling = config.optimizer.learning_rate_scaling
    if scaling is None:
        return None
    peak, factor = config.optimizer.peak_learning_rate, config.learning_rate_factor
    return (
        f"learning rate {peak:.4g} x {factor:.4g} ({scaling.rule}, batch {config.batch.global_batch_tokens:,} of reference "
        f"{scaling.reference_batch_tokens:,} tokens) = {peak * factor:.4g}"
    )


class _Ranks:
    """The launcher and everything below it; leaving the context ends and cleans up all of it."""

    def __init__(self, launch: Launch, run_dir: Path, began: float) -> None:
        """Take also when the stage began, in seconds of the epoch: ranks tell where the time since then went."""
        self._launch, self._began = launch, began
        self._run_dir = run_dir
        self._told: set[int] = set()
        self.stop_requested = False
        self.killed = False

    def __enter__(self) -> "_Ranks":
        identity = {"host": socket.gethostname(), "pid": os.getpid(), "started": process_start_time(os.getpid())}
        identity["times"] = [psutil.Process().create_time(), self._began, time.time()]  # command, stage, launcher
        environment = self._launch.environment | {"PIPELINE_SUPERVISOR": json.dumps(identity)}
        with (self._run_dir / "logs" / "launcher.log").open("wb") as log:
            self.process = subprocess.Popen(  # a session of its own: Ctrl-C reaches the supervisor only
                self._launch.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._members():
            _quietly(process.kill)
        self.process.wait()
        for leftover in Path("/dev/shm").glob(f"deepspeed_*_{self._launch.port}_*"):
            leftover.unlink(missing_ok=True)

    def _members(self) -> list[psutil.Process]:
        """All processes of the launcher's session; ranks stay in it when a launcher dies."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid:
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def request_stop(self) -> None:
        """Ask every rank to save and end; a second time, end them at once."""
        if self.stop_requested:
            note("train: ending at once")
            self.killed = True
            for process in self._members():
                _quietly(process.kill)
            return
        self.stop_requested = True
        note("train: stopping after this step and a checkpoint (once more: at once)")
        if self._launch.command[0] == "srun":
            # A signal to srun itself would end the step at once; this one reaches the job's tasks on every node.
            subprocess.run(["scancel", "--signal=TERM", os.environ["SLURM_JOB_ID"]], check=False)

    def pass_on_stop(self) -> None:
        """Tell every rank to stop that has not been told yet: launchers take seconds before there are any."""
        if not self.stop_requested or self._launch.command[0] == "srun":
            return
        # DeepSpeed's launchers would kill the ranks on a signal, so it goes to the ranks alone.
        for process in self._members():
            if process.pid not in self._told and _is_rank(process):
                self._told.add(process.pid)
                _quietly(process.terminate)

    def has_ended(self) -> bool:
        """Tell whether the launcher is gone."""
        return self.process.poll() is not None


def _is_rank(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return WORKER in command and not any(part.startswith("deepspeed.launcher") for part in command) and "-m" in command


def _quietly(action: Any) -> None:
    with suppress(psutil.Error):
        action()


@contextmanager
def _stop_signals(ranks: _Ranks) -> Iterator[None]:
    """Pass SIGINT, SIGTERM and SIGUSR1 on as a request to stop."""

    def handler(number: int, frame: FrameType | None) -> None:
        ranks.request_stop()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _watch(config: RunConfig, ranks: _Ranks) -> None:
    """Show progress until the launcher ends, or until all ranks have ended without it."""
    path, outcome_seen = config.paths.run_dir / "metrics.jsonl", None
    line, metrics = LiveLine(course_so_far(path), config.total_steps), _Tail(path)
    events = _Tail(config.paths.run_dir / "events.jsonl")
    with progress("train", config.step_plan.total_tokens, "tokens", has_bar=False) as update:
        while not ranks.has_ended():
            time.sleep(POLL_SECONDS)
            ranks.pass_on_stop()
            records = metrics.new_records()
            for record in records:
                line.add(record)
            if records:
                update(records[-1]["tokens"], line.text(columns_for_detail("train")))
            for event in events.new_records():
                if "message" in event:
                    note(f"train: {event['message']}")
            if outcome_seen is None and (config.paths.run_dir / "outcome.json").exists():
                outcome_seen = time.monotonic()
            if outcome_seen is not None and time.monotonic() - outcome_seen > LAUNCHER_GRACE_SECONDS:
                return


class _Tail:
    """New whole lines of a growing JSON-lines file, from its present end on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def new_records(self) -> list[dict[str, Any]]:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return []
        self._offset = 0 if size < self._offset else self._offset  # cut back by a resume
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
        self._offset += len(whole) + 1 if whole else 0
        return [json.loads(line) for line in whole.splitlines()]


def _tracebacks(run_dir: Path) -> list[Path]:
    """Return the logs of ranks that crashed."""
    logs = sorted((run_dir / "logs").glob("rank_*.log"))
    return [log for log in logs if "Traceback (most recent call last)" in log.read_text(errors="replace")]


def _why_it_failed(run_dir: Path, code: int | None) -> str:
    """Return the end of the log that explains it: the first rank with a traceback, else the launcher."""
    log = [*_tracebacks(run_dir), run_dir / "logs" / "launcher.log"][0]
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
    return (
        f"a rank ended without a result (launcher's exit code {code}). The end of {log}:\n{tail}\n"
        "Run the same command again to go on from the newest checkpoint."
    )
