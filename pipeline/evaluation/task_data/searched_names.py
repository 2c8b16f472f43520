"""Checks the tasks that `select.decontaminate` names, before any work starts.

Reads no questions: looks which are in `evaluation.tasks_dir`.
"""

from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.corpus.decontaminating.searched_tasks import searched_tasks
from pipeline.corpus.decontaminating.task_groups import GROUPS
from pipeline.errors import ConfigError
from pipeline.evaluation.task_data.catalogue import CATALOGUE, close_names
from pipeline.store.tasks_folder import TasksFolder


def check_searched_names(config: RunConfig) -> None:
    """Raise ConfigError for each task that does not exist, and where questions are not here."""
    if config.select is None or config.select.decontaminate is None:
        return
    section = config.select.decontaminate
    tasks_dir = config.evaluation.tasks_dir
    unknown = [name for name in section.tasks if not _exists(name, tasks_dir)]
    problems = [
        f"select.decontaminate.tasks: {name!r} is no public task and not in evaluation.tasks_dir"
        f"{close_names(name)} `pipeline tasks list --known` shows the public ones"
        for name in unknown
    ]
    # Those that do not exist cannot be fetched, so they are not named again.
    known = tuple(name for name in section.tasks if name not in unknown)
    try:
        searched_tasks(section.model_copy(update={"tasks": known}), tasks_dir)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)


def _exists(name: str, tasks_dir: Path | None) -> bool:
    """Tell whether a task can be fetched, is a group, or has questions in the folder."""
    if name in CATALOGUE or name in GROUPS:
        return True
    return tasks_dir is not None and TasksFolder(tasks_dir).items(name).is_file()
