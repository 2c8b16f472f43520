"""events.jsonl: what happened to a run, written by its ranks and by the supervisor."""

import json
import os
import time
from pathlib import Path
from typing import Any

from pipeline.store.environment import environment
from pipeline.store.files import FILE_MODE
from pipeline.store.layout import RunFolder

FIRST_STEP = "first step"
"""Kind of the event that each start of the ranks writes when its first step is complete."""


def write_event(run_dir: Path, kind: str, **details: Any) -> None:
    """Append one event with its time; a start also carries the environment. The run folder may be
    yet to be made."""
    record = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": kind, **details}
    if kind == "start":
        record["environment"] = environment()
    run_dir.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(record) + "\n").encode()
    descriptor = os.open(RunFolder(run_dir).events, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size and os.pread(descriptor, 1, size - 1) != b"\n"  # by a crash or a full disk
        os.write(
            descriptor, b"\n" + line if is_torn else line
        )  # at once: others write to the file, too
    finally:
        os.close(descriptor)


def all_events(run_dir: Path) -> list[dict[str, Any]]:
    """Return all events, oldest first, without lines that a crash has torn: no run is held up by
    what is said of it."""
    try:
        lines = RunFolder(run_dir).events.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [event for event in map(whole_record, lines) if event is not None]


def read_events(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """Return the events of one kind, oldest first."""
    return [event for event in all_events(run_dir) if event.get("event") == kind]


def whole_record(line: bytes) -> dict[str, Any] | None:
    """Return what a line says, None where it is torn."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
