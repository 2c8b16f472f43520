"""Output that is made beside the older one, and takes its place when nothing can refuse it.

A stage that is refused, as for a mistyped setting, leaves what it made the last time: files and
manifest. Reads nothing; moves files, and deletes the older manifest before the first of them.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.store.layout import manifest_path

MOVING_THREADS = 16
"""Files that are moved at a time: on a network file system each one waits for a server."""


def unfinished_output(folder: Path) -> Path:
    """Return the folder of intermediate files in a stage's folder."""
    return folder / ".unfinished"


def replace_output(beside: Path, folder: Path, names: Sequence[str]) -> None:
    """Move files to the same places below a stage's folder, in the same file system.

    The manifest goes first: until the stage writes the next one, its output is not complete.
    """
    # Every command imports this module, also `--help`, for which logging and queues would be a wait.
    from concurrent.futures import ThreadPoolExecutor

    manifest_path(folder).unlink(missing_ok=True)
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)

    def move(name: str) -> None:
        (beside / name).replace(folder / name)

    with ThreadPoolExecutor(MOVING_THREADS) as pool:
        list(pool.map(move, names))
