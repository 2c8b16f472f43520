"""Runs that read a data_dir now: each leaves a mark there, so that a command that changes the data
can warn.

Writes one JSON file for each run below data_dir, which only names the run folder: the lease of that
folder says whether the run is alive. Where data_dir is read-only there is no mark and no warning.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.store.files import fingerprint, write_json
from pipeline.store.layout import DataFolder
from pipeline.store.lease import LeaseContent, living_holder


@dataclass(frozen=True)
class DataReader:
    """A run that reads a data_dir now."""

    run_dir: Path
    holder: LeaseContent
    """Content of the lease of the run folder."""

    def __str__(self) -> str:
        command = self.holder.get("purpose", "a command")
        process = f"process {self.holder.get('pid')} on {self.holder.get('host')}"
        return f"`{command}` in {self.run_dir} ({process})"


@contextmanager
def marked_as_reader(data_dir: Path, run_dir: Path) -> Generator[None]:
    """Keep a mark of a run in data_dir while the body runs; the caller holds the run's lease."""
    mark = DataFolder(data_dir).reader_mark(fingerprint(str(run_dir)))
    with suppress(OSError):
        write_json(mark, {"run_dir": str(run_dir)})
    try:
        yield
    finally:
        with suppress(OSError):
            mark.unlink(missing_ok=True)


def live_readers(data_dir: Path) -> list[DataReader]:
    """Return the living runs that have a mark in data_dir; delete the marks of dead ones.

    A run whose folder does not exist on this machine is left out, and its mark kept.
    """
    readers: list[DataReader] = []
    for mark in sorted(DataFolder(data_dir).readers.glob("*.json")):
        run_dir = _run_dir_of(mark)
        if run_dir is None or not run_dir.is_dir():
            continue
        holder = living_holder(run_dir)
        if holder is not None:
            readers.append(DataReader(run_dir, holder))
            continue
        with suppress(OSError):
            mark.unlink(missing_ok=True)
    return readers


def _run_dir_of(mark: Path) -> Path | None:
    """Return the run folder that a mark names, None where the file is gone or damaged."""
    try:
        return Path(json.loads(mark.read_bytes())["run_dir"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
