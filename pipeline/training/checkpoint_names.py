"""Names of checkpoints, and which ones are complete. Free of torch."""

from pathlib import Path

from pipeline.artifacts import MANIFEST


def name_of(step: int) -> str:
    """Return a checkpoint's folder name, which sorts by step."""
    return f"step_{step:08d}"


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step_*") if (path / MANIFEST).is_file())
