"""Which runs read a data_dir: each leaves a mark while it works, so that who changes the data can
be told.

Writes one mark for each run below data_dir, which only names the run's folder: whether that
run lives, its own lease says. Where data_dir may not be written there is no mark, and no other user
of it is told.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.store.files import fingerprint, write_json
from pipeline.store.layout import DataFolder
from pipeline.store.lease import LeaseContent, living_holder


@dataclass(frozen=True)
class DataReader:
    """A run that works with a data_dir now."""

    run_dir: Path
    holder: LeaseContent
    """What its lease says."""

    def __str__(self) -> str:
        says = self.holder
        what = says.get("purpose", "a command")
        return f"`{what}` in {self.run_dir} (process {says.get('pid')} on {says.get('host')})"


@contextmanager
def marked_as_reader(data_dir: Path, run_dir: Path) -> Iterator[None]:
    """Leave the mark of a run while the body works, whose caller holds the lease of `run_dir`."""
    mark = DataFolder(data_dir).reader_mark(fingerprint(str(run_dir)))
    with suppress(OSError):
        write_json(mark, {"run_dir": str(run_dir)})
    try:
        yield
    finally:
        with suppress(OSError):
            mark.unlink(missing_ok=True)


def live_readers(data_dir: Path) -> list[DataReader]:
    """Return the runs that have left a mark and hold their folder; removes the marks of those that
    have died.

    A run whose folder is not seen from here is left out, and its mark left alone.
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
    try:
        return Path(json.loads(mark.read_bytes())["run_dir"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
