"""metrics.jsonl: every completed step exactly once."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.store.files import read_json_lines, write_atomic
from pipeline.store.layout import RunFolder

LAST_BYTES = 1 << 16
"""No record of a step is longer."""


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


def last_step_record(run_dir: Path) -> dict[str, Any] | None:
    """Return the record of the last completed step, None before the first; training may be writing
    the next one."""
    path = RunFolder(run_dir).metrics
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        lines = file.read().rpartition(b"\n")[0].splitlines()
    return json.loads(lines[-1]) if lines else None


def step_record(run_dir: Path, step: int) -> dict[str, Any] | None:
    """Return the record of a step, None where there is none; of the other lines, which may be
    millions, only the beginning is looked at."""
    path = RunFolder(run_dir).metrics
    begins = f'{{"step": {step},'.encode()
    if not path.exists():
        return None
    with path.open("rb") as file:
        return next((json.loads(line) for line in file if line.startswith(begins)), None)


def sampled_records(run_dir: Path, most: int) -> Iterator[dict[str, Any]]:
    """Yield the records that stand at so many places of the file, spread evenly: it may be long."""
    path = RunFolder(run_dir).metrics
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return
    with path.open("rb") as file:
        for place in range(most):
            file.seek(size * place // most)
            if place:
                file.readline()  # the rest of a line
            try:
                record = json.loads(file.readline())
            except ValueError:  # past the last line, or torn by a crash
                continue
            yield record
