"""Checks before any work starts: what each stage checks, and whether its folders can be used.

Writes nothing itself; a check may keep in data_dir what it has found.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.config.run_config import RunConfig, section_problems
from pipeline.errors import ConfigError, UserError
from pipeline.logs import note
from pipeline.store.artifacts import StageState, import_function
from pipeline.store.table.stage_row import Check, Stage
from pipeline.work.dask_workers import in_srun_step


def refuse_srun_step(stages: Sequence[Stage], command: str) -> None:
    """Raise UserError where srun has started this command as several tasks."""
    if not in_srun_step():
        return
    *others, last = [stage.name for stage in stages if stage.on_workers]
    raise UserError(
        "this is one of several tasks of an srun step, and each would do the whole of "
        f"`pipeline {command}`. Call it once, from the batch script, without srun (jobs/slurm/). "
        f"Only {', '.join(others)} and {last} share the tasks of a step, with executor.kind=slurm."
    )


def refuse_mistakes(checks: Iterable[Check], config: RunConfig) -> None:
    """Run the light checks and, if they find nothing, the heavy ones.

    Raises UserError with all mistakes that the light checks, or the heavy ones, have found."""
    asked = list(checks)
    for is_heavy in (False, True):
        errors: list[UserError] = []
        for check in asked:
            if check.is_heavy != is_heavy:
                continue
            try:
                import_function(check.function)(config)
            except UserError as error:
                errors.append(error)
        _raise_together(errors)


def checks_ahead(
    stage: Stage, table: Mapping[str, Stage], states: Mapping[str, StageState]
) -> list[Check]:
    """Return the checks of later stages that can run now; only of stages that are not done."""
    names = list(table)
    later = names[names.index(stage.name) + 1 :]
    return [
        check
        for name in later
        if states[name].kind != "done" and not states[name].absent_sections
        for check in table[name].checks
        if check.is_ahead
    ]


def stages_described(stages: Sequence[Stage], config: RunConfig) -> list[Stage]:
    """Return the stages whose sections are all in the run file.

    Raises ConfigError where the run file has some of the sections with which a stage begins to be
    described, and lacks others that the stage reads: it was meant to run.
    """
    table = {stage.name: stage for stage in stages}
    described: list[Stage] = []
    read_before: set[str] = set()
    for stage in stages:
        absent = stage.absent_sections(config, table)
        own = [name for name in stage.sections if name not in read_before]
        read_before.update(stage.sections)
        if not absent:
            described.append(stage)
        elif any(config.has(name) for name in own) and stage.is_asked(config):
            raise ConfigError(section_problems(absent, f"`{stage.command}`"))
    return described


def undescribed_stages(stages: Sequence[Stage], config: RunConfig) -> dict[str, list[str]]:
    """Return the stages that the run file does not describe, each with the sections it lacks."""
    table = {stage.name: stage for stage in stages}
    absent = {stage.name: stage.absent_sections(config, table) for stage in stages}
    return {name: sections for name, sections in absent.items() if sections}


def undescribed_line(stages: Sequence[Stage], config: RunConfig) -> str | None:
    """Return a line about the stages that the run file does not describe; None without any."""
    undescribed = undescribed_stages(stages, config)
    if not undescribed:
        return None
    sections = dict.fromkeys(name for absent in undescribed.values() for name in absent)
    return (
        f"not described by this run file: {', '.join(undescribed)}. They read the sections "
        f"{', '.join(sections)} (`pipeline config --example`)"
    )


def note_undescribed(command: str, stages: Sequence[Stage], config: RunConfig) -> None:
    """Print which stages the run file does not describe, so that a command leaves them out."""
    line = undescribed_line(stages, config)
    if line is not None:
        note(f"{command}: {line}")


def _raise_together(errors: Sequence[UserError]) -> None:
    """Raise several errors as one; as a ConfigError where all of them are about settings."""
    texts = dict.fromkeys(str(error) for error in errors)
    of_settings = [error for error in errors if type(error) is ConfigError]
    bugs = [error for error in errors if error.exit_code != UserError.exit_code]
    if bugs:
        raise bugs[0]
    if len(texts) == 1:
        raise errors[0]
    if errors and len(of_settings) == len(errors):
        problems = [problem for error in of_settings for problem in error.problems]
        raise ConfigError(list(dict.fromkeys(problems)))
    if errors:
        raise UserError("\n".join(texts))


def refuse_impossible_folders(config: RunConfig) -> None:
    """Raise ConfigError where a file stands at data_dir or run_dir, or above one of them."""
    problems: list[str] = []
    for setting, folder in _roots(config).items():
        existing = _nearest_existing(folder)
        if not existing.is_dir():
            problems.append(f"{setting} = {folder}: {existing} is not a folder; choose another one")
    if problems:
        raise ConfigError(problems)


def refuse_unwritable(config: RunConfig, waiting: Sequence[Stage]) -> None:
    """Raise ConfigError where waiting stages would write to a folder that is read-only.

    A folder that does not exist yet is read-only where the one that it would be made in is.
    """
    problems: list[str] = []
    is_written = {
        "paths.data_dir": any(stage.shared for stage in waiting),
        "paths.run_dir": any(not stage.shared for stage in waiting),
    }
    for setting, folder in _roots(config).items():
        if not is_written[setting]:
            continue
        existing = _nearest_existing(folder)
        if not os.access(existing, os.W_OK | os.X_OK):
            problems.append(
                f"{setting} = {folder}: {existing} may not be written; name another place"
            )
    if problems:
        raise ConfigError(problems)


def _roots(config: RunConfig) -> dict[str, Path]:
    return {"paths.data_dir": config.paths.data_dir, "paths.run_dir": config.paths.run_dir}


def _nearest_existing(folder: Path) -> Path:
    """Return the folder if it exists, else the nearest thing above it that does."""
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))
