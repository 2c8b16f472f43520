"""Reading a file of JSON lines while another process appends to it."""

import os
from pathlib import Path
from typing import Any

from pipeline.store.events import whole_record


class Tail:
    """New whole lines of a growing JSON-lines file, from its present end on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._offset = (
            (path.stat().st_ino, path.stat().st_size) if path.exists() else (None, 0)
        )

    def new_records(self) -> list[dict[str, Any]]:
        """Return what has been added since; all there is where another file has taken its place.

        Nothing while the file cannot be read, and nothing of torn lines: they are shown, and
        nothing depends on them.
        """
        try:
            with self._path.open("rb") as file:
                now = os.fstat(file.fileno()).st_ino
                self._file, self._offset = now, self._offset if now == self._file else 0
                file.seek(self._offset)
                whole, _, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._offset += len(whole) + 1 if whole else 0
        return [record for record in map(whole_record, whole.splitlines()) if record is not None]
