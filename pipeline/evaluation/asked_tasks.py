"""The tasks that a run file asks for, each with its numbers of solved examples.

Reads the shipped suites and the list of fetched tasks. Imports no lm-eval.
"""

from pipeline.config.evaluation_section import Evaluation
from pipeline.config.suites import Suite, load_suite
from pipeline.store.tasks_folder import TasksFolder


def asked_tasks(settings: Evaluation) -> dict[str, tuple[int, ...]]:
    """Return the tasks to score, by name, with their numbers of solved examples, ascending.

    These are `evaluation.tasks` and those of `evaluation.suite`. A list in `evaluation.shots` is for
    all of them. Raises ConfigError for an unknown suite.
    """
    asked = {name: _ascending(settings.own_shots) for name in settings.tasks}
    suite = asked_suite(settings)
    if suite is None:
        return asked
    for task in suite.tasks:
        shots = task.shots
        if settings.shots != "published":
            shots = settings.shots
        asked[task.name] = _ascending(shots)
    return asked


def asked_suite(settings: Evaluation) -> Suite | None:
    """Return the suite of the run file as it can be scored with the questions that are here."""
    if settings.suite is None:
        return None
    present: list[str] = []
    if settings.tasks_dir is not None:
        present = TasksFolder(settings.tasks_dir).names()
    return load_suite(settings.suite, present)


def _ascending(shots: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(shots)))
