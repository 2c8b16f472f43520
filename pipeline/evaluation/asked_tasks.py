"""The tasks that a run file asks for, each with its numbers of solved examples.

Reads the shipped suites and the list of fetched tasks. Imports no lm-eval.
"""

from collections.abc import Mapping

from pipeline.config.mismatches import CLOZE
from pipeline.config.run_config import RunConfig
from pipeline.config.suites import Suite, load_suite
from pipeline.store.tasks_folder import TasksFolder

BITS_PER_BYTE = "heldout_bpb_"
"""Prefix of the tasks that measure bits per byte, one for each source."""
AskedTasks = Mapping[str, tuple[int, ...]]
"""Task or group -> numbers of solved examples, ascending."""


def asked_tasks(config: RunConfig) -> dict[str, tuple[int, ...]]:
    """Return the tasks to score, by name, with their numbers of solved examples, ascending.

    These are `evaluation.tasks` and those of `evaluation.suite`. A list in `evaluation.shots` is for
    all of them. Raises ConfigError for an unknown suite.
    """
    settings = config.evaluation
    asked = {name: _ascending(settings.own_shots) for name in settings.tasks}
    suite = asked_suite(config)
    if suite is None:
        return asked
    for task in suite.tasks:
        shots = task.shots
        if settings.shots != "published":
            shots = settings.shots
        asked[task.name] = _ascending(shots)
    return asked


def asked_suite(config: RunConfig) -> Suite | None:
    """Return the suite of the run file as it can be scored with the questions that are here.

    Where no source has text, that is without `heldout_cloze`, whose questions are made from text.
    """
    settings = config.evaluation
    if settings.suite is None:
        return None
    present: list[str] = []
    if settings.tasks_dir is not None:
        present = TasksFolder(settings.tasks_dir).names()
    suite = load_suite(settings.suite, present)
    if config.sources_with_text or CLOZE not in [task.name for task in suite.tasks]:
        return suite
    return suite.model_copy(
        update={
            "tasks": tuple(task for task in suite.tasks if task.name != CLOZE),
            "missing": suite.missing | {CLOZE: "made from held-out text, and no source has text"},
        }
    )


def _ascending(shots: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(shots)))
