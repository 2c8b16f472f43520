"""The settings that a run has recorded, by the run's folder or by a run file that names the folder.

Reads run_dir/config.yaml, which the supervisor writes at each start.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.evaluation_section import Evaluation
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.config.yaml_files import read_yaml
from pipeline.errors import DataError
from pipeline.store.layout import RunFolder


def recorded_config(run: Path, overrides: Sequence[str]) -> RunConfig:
    """Return the config with which a run was started.

    `run`: the run's folder, or a run file, of which only the folders are taken. Raises DataError
    where there is nothing at that place, or no run has begun there.
    """
    if not run.exists():
        raise DataError(
            f"{run}: no such file or folder. Give the folder of a run, or its run file."
        )
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
    changes = [f"paths.run_dir={folder.absolute()}", *changes]
    return load(run_file, [*_without_old_evaluation(run_file), *changes])


def _without_old_evaluation(run_file: Path) -> list[str]:
    """Return an override that leaves out settings of `evaluation` which no longer exist.

    They decide nothing of what was trained, so that an older run can still be read.
    """
    section = read_yaml(run_file).get("evaluation")
    if not isinstance(section, dict):
        return []
    kept = {name: value for name, value in section.items() if name in Evaluation.model_fields}
    if len(kept) == len(section):
        return []
    return [f"evaluation={json.dumps(kept)}"]
