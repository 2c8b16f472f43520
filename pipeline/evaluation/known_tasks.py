"""Finds lm-eval's tasks by their names, and builds them with their data. Imports lm-eval."""

import difflib
import json
import logging
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lm_eval.api.task
import xxhash
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from pipeline.errors import ConfigError, one_line
from pipeline.store.files import fingerprint
from pipeline.store.records import Json

HOW_TO_BRING_DATA = (
    "run the same command once with HF_HUB_OFFLINE=0 HF_DATASETS_OFFLINE=0 on a machine with "
    "network access, or copy Hugging Face's cache folder (HF_HOME) from such a machine; or leave "
    "the task out"
)
"""Remedy for data of a task that are not on this machine."""


def find_tasks(
    names: Sequence[str], folders: Sequence[Path], collections: Sequence[bool] = (False, True)
) -> TaskManager:
    """Return a manager that builds tasks by their names.

    Searches the folders first, and lm-eval's own collection only for names that are not in them.
    `collections`: whether to include that collection, in each search. Raises ConfigError naming
    each task that does not exist, with similar names.
    """
    unknown = list(names)
    names_of_tasks: list[str] = []
    for with_collection in collections:  # to index lm-eval's collection takes 20 s
        manager = TaskManager(
            include_path=[str(f) for f in folders], include_defaults=with_collection
        )
        names_of_tasks = manager.all_tasks
        unknown = [name for name in names if name not in names_of_tasks]
        if not unknown:
            return manager
    raise ConfigError([_unknown(name, names_of_tasks) for name in unknown])


def _unknown(name: str, names_of_tasks: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names_of_tasks, n=3)
    hint = ""
    if close:
        hint = f"; did you mean {' or '.join(close)}?"
    return (
        f"evaluation.tasks: {name!r} is not a built-in task, not in evaluation.task_paths and not "
        f"a task of lm-eval{hint}"
    )


@dataclass(frozen=True)
class BuiltTasks:
    """lm-eval's tasks with their data."""

    asked: list[Task | Group]
    """The tasks and groups that were asked for, in order."""
    single: dict[str, Task]
    """All tasks by name, those of groups, too."""

    @property
    def groups(self) -> list[Group]:
        """The groups that were asked for, and the groups within them."""
        asked = [group for group in self.asked if isinstance(group, Group)]
        return [group for one in asked for group in (one, *one.get_all_groups())]


def build_tasks(names: Sequence[str], folders: Sequence[Path]) -> BuiltTasks:
    """Build tasks with their data; `folders` hold task files that are searched first.

    Raises ConfigError naming each task that does not exist or cannot be built here, because its data
    are missing or its own code fails, and each task that comes twice.
    """
    manager = find_tasks(names, folders)
    asked: list[Task | Group] = []
    single: dict[str, Task] = {}
    problems: list[str] = []
    for name in names:
        try:
            with silence_libraries():
                loaded = manager.load([name])
        except Exception as error:  # whatever a task's own code, datasets or the hub raise
            problems.append(_cannot_be_built(name, error))
            continue
        group = (loaded.get("groups") or {}).get(name)
        if group is None:
            asked += loaded["tasks"].values()
        else:
            asked.append(group)
        problems += [
            f"evaluation.tasks: {twice} comes twice, once within {name}; leave one of them out"
            for twice in loaded["tasks"]
            if twice in single
        ]
        single |= loaded["tasks"]
    if problems:
        raise ConfigError(problems)
    return BuiltTasks(asked, single)


def task_identity(task: Task) -> str:
    """Return a hash of a task's definition and of all rows that it may ask or show.

    The code that a definition names is hashed as text.
    """
    definition = task.config.to_dict()
    # The number of examples is part of the question, not of the task.
    definition.pop("num_fewshot", None)
    rows = xxhash.xxh3_128()
    for split in sorted(task.dataset):  # pyright: ignore[reportCallIssue, reportArgumentType]
        for row in task.dataset[split]:  # pyright: ignore[reportOptionalSubscript]
            rows.update(json.dumps(row, sort_keys=True, default=str).encode())
    return fingerprint([json.loads(json.dumps(definition, default=str)), rows.hexdigest()])


def generated_tokens(settings: dict[str, Json]) -> int:
    """Return how many tokens a task's `generation_kwargs` let the model write; by default 256."""
    complete = normalize_gen_kwargs(settings)
    assert "max_gen_toks" in complete
    return complete["max_gen_toks"]


def _cannot_be_built(name: str, error: Exception) -> str:
    reason = f"{type(error).__name__}: {one_line(error)}"
    return (
        f"evaluation.tasks: {name!r} cannot be built here ({reason}). If its data are missing: "
        f"{HOW_TO_BRING_DATA}"
    )


@contextmanager
def silence_libraries() -> Generator[None]:
    """Keep logs, warnings and progress bars of lm-eval and datasets off the terminal.

    Errors are still raised and logged.
    """
    before = logging.root.manager.disable
    bar = lm_eval.api.task.tqdm
    logging.disable(logging.WARNING)
    lm_eval.api.task.tqdm = partial(tqdm, disable=True)
    has_bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        lm_eval.api.task.tqdm = bar
        if has_bars:
            enable_progress_bars()
