"""The settings that a run has recorded, by the run's folder or by a run file that names the folder.

Reads run_dir/config.yaml, which the supervisor writes at each start.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.store.layout import RunFolder


def recorded_config(run: Path, overrides: Sequence[str]) -> RunConfig:
    """Return the config with which a run was started.

    `run`: the run's folder, or a run file, of which only the folders are taken. Raises DataError
    where no run has begun there.
    """
    if run.is_dir():
        folder = run
        changes = [*overrides]
    else:
        # Since the run began, its folders may have moved and the run file may have changed.
        config = load(run, overrides)
        folder = config.paths.run_dir
        changes = [f"paths.data_dir={config.paths.data_dir}"]
    run_file = RunFolder(folder).config
    if not run_file.is_file():
        raise DataError(
            f"{folder}: holds no run (no {run_file.name}). Give a folder in which `pipeline train` "
            "has begun a run."
        )
    return load(run_file, [f"paths.run_dir={folder.absolute()}", *changes])
