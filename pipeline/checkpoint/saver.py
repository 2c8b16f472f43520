"""Saves checkpoints beside training: copies to host memory, written by a thread, then published.

A folder among the unfinished checkpoints takes the files, each checksummed while it is written and
brought to the disk. When the ranks have agreed that all is there, rank 0 adds the manifest, renames
the folder to the checkpoint's name, and then lets `latest` name it: a folder of that name is
complete, at whatever moment anything dies. A checkpoint that cannot be written costs no
other: it is dropped, and the failure is reported.
"""

import io
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

from pipeline.checkpoint.files import Content
from pipeline.checkpoint.folders import (
    complete_checkpoints,
    remove_checkpoint,
    write_checkpoint_manifest,
    write_latest,
)
from pipeline.checkpoint.reader import (
    PROBE,
    SavedRandomState,
    parameter_names,
    random_state,
    random_state_file,
)
from pipeline.checkpoint.retention import checkpoints_to_prune
from pipeline.checkpoint.snapshot import HostMemory, as_it_is
from pipeline.checkpoint.state import TrainState
from pipeline.config.groups import RankGroups
from pipeline.config.run_sections import Checkpoint
from pipeline.engine.agreement import call_on_rank_0, problems_on_any_rank
from pipeline.engine.deepspeed_engine import Engine, write_no_recovery_script
from pipeline.engine.groups import gather_from_world_ranks
from pipeline.errors import UserError
from pipeline.logs import note
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.events import write_event
from pipeline.store.files import sync_folder
from pipeline.store.heartbeat import LEAST_SECONDS, NO_HEARTBEAT, Heartbeat, NoHeartbeat
from pipeline.store.layout import RunFolder, checkpoint_name, unfinished_checkpoints
from pipeline.store.metrics import MetricsFile
from pipeline.store.records import CheckpointManifest, FileRecord, RunFacts

T = TypeVar("T")
Records = dict[str, FileRecord]
"""File -> its size and checksum."""
FileContents: TypeAlias = dict[str, Content | SavedRandomState]
"""File -> its future content."""
NICE = 10
"""Niceness of the thread that writes.

With 19, the maximum, a save never ends where other programs keep all cores busy, and training waits
for a thread that holds Python's lock and gets no core.
"""


@dataclass
class _Pending:
    """A checkpoint whose files are being written."""

    state: TrainState
    folder: Path
    began: float
    stalled: float
    """Seconds that training waited for the copies."""
    written: Future[Records]


class Saver:
    """Saves checkpoints. Every rank has one and calls the same methods after the same steps."""

    def __init__(
        self,
        engine: Engine,
        groups: RankGroups,
        run_dir: Path,
        settings: Checkpoint,
        about: RunFacts,
        *,
        heartbeat: Heartbeat | NoHeartbeat = NO_HEARTBEAT,
        metrics: MetricsFile | None = None,
    ) -> None:
        """Remove what a killed job left unfinished; every rank calls it.

        `about`: what every manifest says of the run. `metrics` is brought to the disk before each
        checkpoint, so that no resumed run trains and records the same steps again.
        """
        self._engine = engine
        self._groups = groups
        self._run_dir = run_dir
        self._settings = settings
        self._about = about
        self._folder = RunFolder(run_dir).checkpoints
        self._partial = unfinished_checkpoints(self._folder)
        self._memory = HostMemory()
        self._heartbeat = heartbeat
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="checkpoint", initializer=_yield_to_training
        )
        self._pending: _Pending | None = None
        self._published: Future[None] | None = None
        self._failure: str | None = None
        self._token: str = call_on_rank_0(groups, self._clean)

    @property
    def is_pending(self) -> bool:
        """Whether a checkpoint is yet to be published; the same on all ranks."""
        return self._pending is not None

    @property
    def has_written(self) -> bool:
        """Whether this rank has nothing left to write."""
        return self._pending is None or self._pending.written.done()

    def save(self, state: TrainState, probe: Mapping[str, np.ndarray]) -> None:
        """Copy everything that a resume needs, and begin to write it.

        Waits first for a save that is still being written.
        """
        # One save at a time: an earlier one that is too slow makes training wait, and is reported.
        if self._pending:
            began = time.monotonic()
            self.publish()
            if self._groups.is_rank_0:
                waited = round(self._since(began), 3)
                message = (
                    f"the checkpoint before that of step {state.step} was still being written: "
                    f"training waited {waited:.1f} s for it; save less often "
                    "(checkpoint.save_every_steps, keep_every_steps, keep_log_spaced, keep_steps)"
                )
                write_event(
                    self._run_dir, "slow save", step=state.step, seconds=waited, message=message
                )
        began = time.monotonic()
        folder = self._partial / self._token / checkpoint_name(state.step)
        problems = problems_on_any_rank(self._groups, self._make(folder))
        if problems:
            self._give_up(state.step, folder, problems)
            return
        # DeepSpeed hands over its states, which are copied instead of written.
        self._memory.begin()
        states: FileContents = {}
        keep: Callable[[Content], Content] = as_it_is
        if self._settings.asynchronous:
            keep = self._memory.copy
        with self._captured(states, keep):
            names = {"parameter_names": parameter_names(self._engine)}
            self._engine.save_checkpoint(
                str(folder.parent), tag=folder.name, save_latest=False, client_state=names
            )
        states[random_state_file(self._groups.world_rank)] = random_state()
        if self._groups.is_rank_0:
            content = io.BytesIO()
            np.savez(content, **probe)  # pyright: ignore[reportArgumentType]
            states[PROBE] = content.getvalue()
        # When the copies are complete, training goes on and the thread writes them.
        self._memory.wait()
        written = self._thread.submit(write_files, folder, states)
        self._pending = _Pending(state, folder, began, self._since(began), written)
        if not self._settings.asynchronous:
            self.publish()

    def publish(self) -> None:
        """Wait until all ranks have written, then publish the checkpoint.

        Drops the checkpoint, and reports it, where a rank could not write.
        """
        pending = self._pending
        self._pending = None
        if pending is None:
            return
        records, problem = self._outcome(pending.written)
        parts = gather_from_world_ranks((records or {}, problem), self._groups)
        problems = list(dict.fromkeys(problem for _, problem in parts if problem))
        if problems:
            self._give_up(pending.state.step, pending.folder, problems)
            return
        self._failure = None
        if self._groups.is_rank_0:
            files = {name: record for part, _ in parts for name, record in part.items()}
            self._published = self._thread.submit(
                self._publish, pending, dict(sorted(files.items()))
            )

    def finish(self) -> None:
        """Wait until the last save is on the disk. Raises UserError on every rank if it failed."""
        self.publish()

        def problem() -> str | None:
            failure = None
            if self._published:
                _, failure = self._outcome(self._published)
            failure = failure or self._failure
            _remove_empty(self._partial / self._token, self._partial)
            return failure

        failure = call_on_rank_0(self._groups, problem)
        if failure:
            complete = call_on_rank_0(self._groups, complete_checkpoints, self._folder)
            newest = [path.name for path in complete]
            stands = "No checkpoint had been saved before"
            if newest:
                stands = f"Earlier checkpoints are intact: the newest checkpoint is {newest[-1]}"
            raise UserError(
                f"{failure}. {stands}. Repair the cause and run the same command again."
            )

    def _publish(self, pending: _Pending, files: Records) -> None:
        """Turn a folder that all ranks have written into a checkpoint; runs in rank 0's thread."""
        manifest: CheckpointManifest = {
            "state": pending.state.record(),
            "ranks": self._groups.sizes.world,
            "zero_stage": self._engine.zero_optimization_stage(),
            **self._about,
            "files": files,
        }
        target = self._folder / pending.folder.name
        try:
            _check_sizes(pending.folder, files)
            if self._metrics:
                self._metrics.sync()
            write_checkpoint_manifest(pending.folder, manifest)
            sync_folder(pending.folder)
            replaced = pending.folder.with_name(f"replaced_{target.name}")
            # A rollback may have left a checkpoint of the same step.
            if target.exists():
                target.rename(replaced)
            pending.folder.rename(target)
            sync_folder(self._folder)
            shutil.rmtree(replaced, ignore_errors=True)
        except OSError as error:
            shutil.rmtree(pending.folder, ignore_errors=True)
            message = _cannot(pending.state.step, [str(error)])
            self._say_failed(pending.state.step, message)
            raise UserError(message) from None
        # The checkpoint is complete whatever `latest` names, and a resume repairs `latest`.
        with suppress(OSError):
            write_latest(target)
        self._remove_surplus(target)
        seconds = round(self._since(pending.began), 3)
        stalled = seconds
        if self._settings.asynchronous:
            stalled = round(pending.stalled, 3)
        size = sum(record["bytes"] for record in files.values())
        write_event(
            self._run_dir, "save", step=pending.state.step, checkpoint=target.name, seconds=seconds,
            stalled_seconds=stalled, bytes=size,
        )  # fmt: skip

    def _remove_surplus(self, target: Path) -> None:
        try:
            for old in checkpoints_to_prune(
                complete_checkpoints(self._folder), target, self._settings
            ):
                remove_checkpoint(old)
        except OSError as error:
            # Somebody may be reading it on a network file system. The next save tries again.
            message = f"{target.name} is saved, an older checkpoint could not be removed: {error}"
            write_event(self._run_dir, "removal failed", checkpoint=target.name, message=message)

    def _give_up(self, step: int, folder: Path, problems: list[str]) -> None:
        self._failure = _cannot(step, problems)
        if self._groups.is_rank_0:
            shutil.rmtree(folder, ignore_errors=True)
            self._say_failed(step, self._failure)

    def _say_failed(self, step: int, message: str) -> None:
        try:
            write_event(self._run_dir, "save failed", step=step, message=message)
        except OSError as error:  # the same full disk
            note(f"{message} ({error})")

    def _clean(self) -> str:
        partial = self._partial
        # The first save reports what cannot be removed.
        with suppress(OSError):
            if partial.is_dir():
                shutil.rmtree(partial)
            else:
                partial.unlink(missing_ok=True)
        return secrets.token_hex(4)

    def _make(self, folder: Path) -> list[str]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return [str(error)]
        return []

    @contextmanager
    def _captured(
        self, states: FileContents, keep: Callable[[Content], Content]
    ) -> Generator[None]:
        """Put what DeepSpeed would write into `states`, by file, each passed through `keep`."""
        engine = self._engine
        real = self._engine.checkpoint_engine
        engine.checkpoint_engine = _Capture(states, keep)
        write_no_recovery_script(engine)
        try:
            yield
        finally:
            engine.checkpoint_engine = real

    def _outcome(self, future: Future[T]) -> tuple[T | None, str | None]:
        """Wait for a future; return its result, or the reason why there is none.

        Heartbeats go on during the wait, as a rank with a slow disk is not hung.
        """
        while not wait([future], timeout=LEAST_SECONDS).done:
            self._heartbeat.beat("writing a checkpoint")
        try:
            return future.result(), None
        except (OSError, UserError, RuntimeError) as error:
            # PyTorch turns an OSError of the file into a RuntimeError.
            cause = error.__cause__ or error.__context__
            if isinstance(cause, OSError):
                return None, str(cause)
            return None, str(error)

    def _since(self, began: float) -> float:
        return time.monotonic() - began


class _Capture(TorchCheckpointEngine):
    """Replaces DeepSpeed's writer: keeps states instead of writing them."""

    def __init__(self, states: FileContents, keep: Callable[[Content], Content]) -> None:
        self._states = states
        self._keep = keep

    def save(self, state_dict: Content, path: str) -> None:
        self._states[Path(path).name] = self._keep(state_dict)


def write_files(folder: Path, states: FileContents) -> Records:
    """Write states, or bytes, to files by name; return size and checksum of each file.

    All bytes are on the disk when it returns.
    """
    records: Records = {}
    for name, state in states.items():
        with ChecksummedFile(folder / name, stays_cached=False) as file:
            if isinstance(state, bytes):
                file.write(state)
            else:
                _serialise(state, file)
            file.fsync()
            records[name] = file.record()
    return records


def _serialise(state: Content | SavedRandomState, file: ChecksummedFile) -> None:
    torch.serialization.set_crc32_options(False)  # a second checksum, which nothing would look at
    torch.save(state, file)  # pyright: ignore[reportArgumentType]


def _remove_empty(*folders: Path) -> None:
    with suppress(OSError):  # another checkpoint has begun
        for folder in folders:
            folder.rmdir()


def _check_sizes(folder: Path, files: Records) -> None:
    """Raise OSError where files were removed or changed in size after they were written."""
    for name, record in files.items():
        size = (folder / name).stat().st_size
        if size != record["bytes"]:
            raise OSError(
                f"{folder / name}: has {size:,} bytes of {record['bytes']:,} after it was written"
            )


def _cannot(step: int, problems: list[str]) -> str:
    return f"the checkpoint of step {step} could not be written: {'; '.join(problems)}"


def _yield_to_training() -> None:
    """Lower this thread's priority, so that it takes only cores that training leaves idle.

    On CPUs every operation of training waits for its slowest core.
    """
    with suppress(OSError):  # only on Linux has a thread a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
