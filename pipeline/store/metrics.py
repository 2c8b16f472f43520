"""metrics.jsonl: every completed step exactly once."""

import json
import os
from pathlib import Path
from typing import Any

from pipeline.store.files import read_json_lines, write_atomic
from pipeline.store.layout import RunFolder


class MetricsFile:
    """Appends step records; opened by one process."""

    def __init__(self, run_dir: Path, completed_steps: int) -> None:
        """Open for steps after `completed_steps`; later lines, and a torn last one, move to a side
        file."""
        run = RunFolder(run_dir)
        _drop_after(run.metrics, run.abandoned_metrics, completed_steps)
        self._file = run.metrics.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one step, visible to readers at once."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Bring what is written to the disk; from any thread."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _drop_after(path: Path, side: Path, completed_steps: int) -> None:
    if not path.exists():
        return
    keep, drop = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError):
            step = None  # torn by a crash
        (keep if step is not None and step <= completed_steps else drop).append(line)
    if drop:
        with side.open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in drop)
        write_atomic(path, "".join(line + "\n" for line in keep))


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return all step records, oldest first."""
    return read_json_lines(RunFolder(run_dir).metrics)
