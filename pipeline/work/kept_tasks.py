"""How many finished tasks of earlier jobs this process has taken over, in each stage's folder.

The executor has read every record when it begins, so whoever asks need not look at a hundred
thousand of them again. Reads and writes nothing.
"""

from pathlib import Path

_kept: dict[Path, int] = {}
"""Stage's folder -> tasks whose results were on disk."""


def count_kept(folder: Path, tasks: int) -> None:
    """Add finished tasks that were taken over."""
    _kept[folder] = _kept.get(folder, 0) + tasks


def kept_tasks(folder: Path) -> int:
    """Return the tasks taken over in a folder since `forget_kept`."""
    return _kept.get(folder, 0)


def forget_kept(folder: Path) -> None:
    """Begin to count at 0."""
    _kept.pop(folder, None)
