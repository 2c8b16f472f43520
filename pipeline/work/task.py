"""A work item of a stage: what it is, how it runs once, and the record that says it is done.

Reads and writes the records in the stage's folder.
"""

import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import xxhash

from pipeline.errors import Interrupted, UserError, out_of_space
from pipeline.store.files import read_json, write_json
from pipeline.store.manifests.shard_places import placed
from pipeline.store.records import SizedFile
from pipeline.work.kept_memory import keep_freed_memory
from pipeline.work.progress_board import Send

REPORT_SECONDS = 0.5
"""Shortest time between two progress reports of a worker, except of an item's end."""


@dataclass(frozen=True)
class Task:
    """One unit of work: `function(**arguments)` returns a JSON mapping, a TypedDict."""

    name: str
    """Unique name, also of the task's record."""
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    fingerprint: str
    """Hash of everything that changes the outputs."""
    size: float = 1.0
    """Size of the input, in bytes if nothing else is said."""
    part: str = ""
    """Folder in the folder of records that holds the record; empty for that folder itself."""
    outputs_in_parts: bool = False
    """Whether the files that the result lists by their logical names lie in parts of the source's
    folder (`store/manifests/shard_places.py`). A record is true wherever they are moved."""

    @property
    def record_name(self) -> str:
        """Name of the file of the task's record."""
        return f"{self.name}.json"

    def record_path(self, records: Path) -> Path:
        """Return the JSON file of the task's record in the folder of records."""
        return records / self.part / self.record_name

    def in_part(self) -> "Task":
        """Return the same task with its record in one of 256 folders, by a hash of its name."""
        return replace(self, part=f"{xxhash.xxh3_64_intdigest(self.name.encode()) & 0xFF:02x}")


class TaskResult(TypedDict, total=False):
    """The part of every task's result that this room reads; each kind of task has more."""

    files: Mapping[str, SizedFile]
    """Path below the stage's folder, or logical name where files lie in parts -> size of the output."""


class TaskRecord(TypedDict):
    """Record that is written when a task is done."""

    fingerprint: str
    """Fingerprint of the task."""
    seconds: float
    """Time that the task took."""
    result: TaskResult


FinishedTask: TypeAlias = tuple[Task, TaskResult | UserError]
"""A task, and its result or the mistake of the user that it found."""

stopping = threading.Event()
"""Set while the tasks in threads of this process have to end."""
_current = threading.local()
"""In a thread that runs a task: `send`, which reports its progress, and `last`, when it did."""


def execute_task(task: Task, records: Path, send: Send) -> TaskResult | UserError:
    """Run a task and write its record; return its result, or the UserError that it raised.

    Raises OutOfSpace where the disk is full; the task then has no record.
    """
    _current.send = send
    started = time.monotonic()
    keep_freed_memory()
    try:
        result: TaskResult = task.function(**task.arguments)
        seconds = round(time.monotonic() - started, 3)
        record: TaskRecord = {
            "fingerprint": task.fingerprint,
            "seconds": seconds,
            "result": result,
        }
        write_json(task.record_path(records), record)
        return result
    except Interrupted:
        raise
    except UserError as error:
        # Only the message crosses process boundaries.
        return UserError(str(error))
    except OSError as error:
        full = out_of_space(error, records.parent)
        if full:
            raise full from None
        raise
    finally:
        _current.send = None


def report_progress(fraction: float, **counts: int) -> None:
    """Report, from inside a task, the fraction that is done (0 to 1) and what it has made so far.

    Cheap to call often. `text_bytes` gives the rate; other counts are printed by name. Raises
    Interrupted in a thread of this process after Ctrl-C.
    """
    if stopping.is_set():
        raise Interrupted("stopped")
    send = getattr(_current, "send", None)
    last = getattr(_current, "last", 0.0)
    if send and (time.monotonic() - last >= REPORT_SECONDS or fraction >= 1):
        _current.last = time.monotonic()
        send(fraction, counts)


def stored_result(task: Task, records: Path) -> TaskResult | None:
    """Return the result of a task that is done, None where it has to run.

    It is done if its record has its fingerprint and its outputs exist, below the folder above
    `records`. Raises DataError where the record is damaged.
    """
    record: TaskRecord | None = read_json(task.record_path(records))
    if not record or record["fingerprint"] != task.fingerprint:
        return None
    if not _outputs_exist(record["result"], records.parent, task.outputs_in_parts):
        return None
    return record["result"]


def _outputs_exist(result: TaskResult, folder: Path, in_parts: bool) -> bool:
    """Tell whether the files that a task's result lists exist in their full size."""
    for name, record in result.get("files", {}).items():
        try:
            status = (folder / placed(name, in_parts)).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != record["bytes"]:
            return False
    return True
