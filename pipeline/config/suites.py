"""Suites: published lists of tasks with their numbers of examples, for `evaluation.suite`.

Reads `presets/suites/*.yaml`. Imports no torch.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from pipeline.config.shipped_files import SUITES, shipped_file
from pipeline.config.values import Section
from pipeline.config.yaml_files import read_yaml
from pipeline.errors import ConfigError

Formulation = Literal["cloze", "letters", "generation", "last word"]


class SuiteTask(Section):
    """One task of a suite, as its source scores it."""

    name: str
    """Name in `evaluation.tasks`."""
    shots: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    """Numbers of solved examples (k) with which the source publishes scores."""
    metric: str
    """Metric that the source publishes, such as `acc_norm`."""
    chance: float | None = Field(ge=0, le=1)
    """Score of guessing that the source subtracts or shows; none where the model writes freely."""
    formulation: Formulation
    """`cloze`: the model scores the text of each answer. `letters`: the answers are listed in the
    question and the model scores their letters. `generation`: the model writes. `last word`: the
    model scores the last word of a text."""
    benchmark: str | None = None
    """Name of the benchmark, where several tasks ask its questions in different ways. The score of
    the benchmark is the better one."""
    fixed_examples: int | None = None
    """Solved examples that each question already contains, the same for all models."""
    missing: str | None = None
    """Reason why `pipeline tasks fetch` cannot bring the questions from the usual place, and
    from where else they can be had. The suite is scored without the task until they are there."""


class Suite(Section):
    """A suite as it can be scored here."""

    name: str
    """Name in `evaluation.suite`."""
    description: str
    """One line: what the suite is, and its source."""
    tasks: tuple[SuiteTask, ...]
    """Tasks to score, in the order of the source."""
    missing: dict[str, str]
    """Task that is left out -> reason."""


class _SuiteFile(Section):
    description: str
    """One line: what the suite is, and its source."""
    tasks: tuple[SuiteTask, ...] = Field(min_length=1)
    """Tasks of the suite, in the order of the source."""
    cannot_be_had: dict[str, str] = Field(default_factory=dict)
    """Task of the source that cannot be had here at all -> reason."""


def load_suite(name: str, present: Collection[str] = ()) -> Suite:
    """Return a shipped suite without the tasks that cannot be had.

    `present`: tasks whose questions are in `evaluation.tasks_dir`; these are kept although they
    have to come from elsewhere. Raises ConfigError for an unknown name.
    """
    try:
        path = shipped_file(name, SUITES, "suite")
    except ValueError as error:
        raise ConfigError([f"evaluation.suite = {name!r}: {error}"]) from None
    suite = _suite_in(path)
    missing = dict(suite.cannot_be_had)
    tasks: list[SuiteTask] = []
    for task in suite.tasks:
        if task.missing is not None and task.name not in present:
            missing[task.name] = task.missing
        else:
            tasks.append(task)
    return Suite(name=name, description=suite.description, tasks=tuple(tasks), missing=missing)


@cache
def _suite_in(path: Path) -> _SuiteFile:
    """Return what a shipped file says; it is read once, however many run files name the suite."""
    try:
        return _SuiteFile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError([f"{path}: {error}"]) from None
