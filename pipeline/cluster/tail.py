"""Reading a file of JSON lines while another process appends to it."""

import os
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.store.events import parse_record

T = TypeVar("T")
"""Record on a line of the file."""


class Tail(Generic[T]):
    """New whole lines of a growing JSON-lines file."""

    def __init__(self, path: Path) -> None:
        """Begin at the present end of the file."""
        self._path = path
        self._inode: int | None = None
        self._offset = 0
        if path.exists():
            self._inode = path.stat().st_ino
            self._offset = path.stat().st_size

    def new_records(self) -> list[T]:
        """Return the records added since the last call; all of them if the file was replaced.

        Torn lines are left out, and a file that cannot be read now has no new records: these are
        only displayed, so that nothing depends on them.
        """
        try:
            with self._path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:
                    self._inode = inode
                    self._offset = 0
                file.seek(self._offset)
                whole, _, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        if whole:
            self._offset += len(whole) + 1
        return [record for record in map(parse_record, whole.splitlines()) if record is not None]
