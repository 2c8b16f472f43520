"""Finds lm-eval's tasks by their names, and builds them with their data. Imports lm-eval."""

import difflib
import json
import logging
import re
import warnings
from collections.abc import Callable, Collection, Generator, Sequence
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

from pipeline.config.evaluation_section import QUESTIONS_SUFFIX
from pipeline.corpus.decontaminating.task_groups import GROUPS
from pipeline.errors import ConfigError, DataError, one_line
from pipeline.evaluation.asked_tasks import AskedTasks
from pipeline.evaluation.built_in.built_in_tasks import BUILT_IN
from pipeline.evaluation.task_data.catalogue import CATALOGUE
from pipeline.evaluation.task_data.definition_code import files_of_code
from pipeline.evaluation.task_data.stored_tasks import (
    COLLECTION,
    QuestionsInFolder,
    StoredTask,
    build_from_file,
    definition_folders,
)
from pipeline.store.files import fingerprint
from pipeline.store.records import Json
from pipeline.store.tasks_folder import TasksFolder

HOW_TO_BRING_DATA = (
    "fetch its questions with `pipeline tasks fetch` and set evaluation.tasks_dir; or run the same "
    "command once with HF_HUB_OFFLINE=0 HF_DATASETS_OFFLINE=0 on a machine with "
    "network access, or copy Hugging Face's cache folder (HF_HOME) from such a machine; or leave "
    "the task out"
)
"""Remedy for data of a task that are not on this machine."""


def find_tasks(
    names: Sequence[str], folders: Sequence[Path], collections: Sequence[bool] = (False, True)
) -> TaskManager:
    """Return a manager that builds tasks by their names.

    Searches the folders first, together with those of lm-eval's collection that the catalogue names,
    and the whole collection only for names that are not in them. `collections`: whether to include
    it, in each search. Raises ConfigError naming each task that does not exist, with similar names.
    """
    unknown = list(names)
    names_of_tasks: list[str] = []
    paths = [*definition_folders(names), *folders]  # of two definitions the later one counts
    for with_collection in collections:  # to index lm-eval's collection takes 20 s
        manager = TaskManager(
            include_path=[str(path) for path in paths], include_defaults=with_collection
        )
        names_of_tasks = manager.all_tasks
        unknown = [name for name in names if name not in names_of_tasks]
        if not unknown:
            return manager
    raise ConfigError([_unknown(name, names_of_tasks) for name in unknown])


def _unknown(name: str, names_of_tasks: Sequence[str]) -> str:
    if name in CATALOGUE:
        return (
            f"evaluation.tasks: the questions of {name!r} are read from evaluation.tasks_dir; fetch "
            f"them with `pipeline tasks fetch {name}`, and set evaluation.tasks_dir to their folder"
        )
    every_name = sorted({*names_of_tasks, *CATALOGUE, *GROUPS, *BUILT_IN})
    close = difflib.get_close_matches(name, every_name, n=3)
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
    built_for: dict[str, str]
    """Task -> the name that was asked for: its own, a group's or tag's, a file of questions."""

    @property
    def groups(self) -> list[Group]:
        """The groups that were asked for, and the groups within them."""
        asked = [group for group in self.asked if isinstance(group, Group)]
        return [group for one in asked for group in (one, *one.get_all_groups())]

    def shots_of_tasks(self, asked: AskedTasks) -> dict[str, tuple[int, ...]]:
        """Return by task the numbers of solved examples that are asked for, ascending.

        Those of the name that it was built for; 0 for a task that lm-eval asks with none, and for
        one that `asked` does not name.
        """
        shots = {name: asked.get(self.built_for[name], (0,)) for name in self.single}
        without = [
            name for name, task in self.single.items() if task.get_config("num_fewshot") == 0
        ]
        return shots | dict.fromkeys(without, (0,))


def build_tasks(
    names: Sequence[str],
    folders: Sequence[Path],
    tasks_dir: Path | None = None,
) -> BuiltTasks:
    """Build tasks with their data.

    A name is a JSONL file of questions, or a task of one of the `folders` with task files, or one
    whose questions are in `tasks_dir`, or one of lm-eval's collection, in this order. Raises
    ConfigError naming each task that does not exist or cannot be built here, because its data are
    missing or its own code fails, and each task that comes twice.
    """
    questions = None
    if tasks_dir is not None:
        questions = QuestionsInFolder(TasksFolder(tasks_dir))
    build_one = _builders(names, folders, questions)
    asked: list[Task | Group] = []
    single: dict[str, Task] = {}
    built_for: dict[str, str] = {}
    problems: list[str] = []
    for name in names:
        # Build what the name stands for.
        try:
            with silence_libraries():
                built = build_one[name](name)
        except DataError as error:  # of our own files, which it names
            problems.append(f"evaluation.tasks: {error}")
            continue
        except Exception as error:  # whatever a task's own code, datasets or the hub raise
            problems.append(_cannot_be_built(name, error))
            continue

        # A task may come alone and in a group.
        asked += built
        members = [task for one in built for task in _tasks_within(one)]
        problems += [
            f"evaluation.tasks: {task.task_name} comes twice, once within {name}; leave one of them "
            "out"
            for task in members
            if task.task_name in single
        ]
        single |= {task.task_name: task for task in members}
        built_for |= {task.task_name: name for task in members}
    if problems:
        raise ConfigError(problems)
    return BuiltTasks(asked, single, built_for)


Builder = Callable[[str], "Sequence[Task | Group]"]
"""Builds what a name stands for: a task, a group, or all tasks with a tag."""


def _builders(
    names: Sequence[str], folders: Sequence[Path], questions: QuestionsInFolder | None
) -> dict[str, Builder]:
    """Return what builds each name. Raises ConfigError for names that nothing defines."""
    builders: dict[str, Builder] = {}

    # Files of questions, and tasks of the user's folders, which come before all others.
    own: list[str] = []
    if folders:
        paths: list[str | Path] = list(folders)
        own = TaskManager(include_path=paths, include_defaults=False).all_tasks
    for name in names:
        if name.endswith(QUESTIONS_SUFFIX):
            builders[name] = lambda path: [build_from_file(Path(path))]

    # Tasks whose questions are in the folder of the run file.
    if questions is not None:
        for name in names:
            if name not in builders and name not in own and questions.knows(name):
                builders[name] = lambda known: questions.build([known])

    # All others.
    others = [name for name in names if name not in builders]
    if others:
        manager = find_tasks(others, folders)
        builders |= dict.fromkeys(others, partial(_load, manager))
    return builders


def _load(manager: TaskManager, name: str) -> Sequence[Task | Group]:
    loaded = manager.load([name])
    group = (loaded.get("groups") or {}).get(name)
    if group is None:
        return list(loaded["tasks"].values())
    return [group]


def _tasks_within(built: Task | Group) -> Sequence[Task]:
    if isinstance(built, Group):
        return built.get_all_tasks()
    return [built]


def task_identity(task: Task) -> str:
    """Return a hash of a task's definition and of all rows that it may ask or show.

    The files with the code that a definition names are hashed whole, with the modules beside them
    that help it.
    """
    # The number of examples is part of the question, not of the task; where its file lies is
    # neither.
    code: dict[str, str] = {}
    for path, name in sorted(files_of_code(task).items()):
        code[name] = code.get(name, "") + path.read_text("utf-8")
    definition = task.config.to_dict()
    definition.pop("num_fewshot", None)
    definition.get("metadata", {}).pop("config_source", None)
    described = json.loads(json.dumps(definition, default=_described))
    return fingerprint([described, code, _checksums_of_rows(task)])


def _described(value: object) -> str:
    """Return an object of a definition as text that is the same in every process.

    A function is its name, as its code is hashed besides. Other texts lose addresses in memory.
    """
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def own_code(built: BuiltTasks, known: Collection[Path]) -> list[Path]:
    """Return the files of code that tasks run and that come from elsewhere, sorted.

    `known`: folders whose code is ours, besides lm-eval's own collection.
    """
    trusted = (COLLECTION, *known)
    paths = {path for task in built.single.values() for path in files_of_code(task)}
    return sorted(
        path for path in paths if not any(path.is_relative_to(folder) for folder in trusted)
    )


def _checksums_of_rows(task: Task) -> dict[str, str]:
    """Return a checksum of the rows of each split."""
    if isinstance(task, StoredTask):
        return task.checksums
    checksums: dict[str, str] = {}
    for split in sorted(task.dataset):  # pyright: ignore[reportCallIssue, reportArgumentType]
        rows = xxhash.xxh3_128()
        for row in task.dataset[split]:  # pyright: ignore[reportOptionalSubscript]
            rows.update(json.dumps(row, sort_keys=True, default=_described).encode())
        checksums[str(split)] = rows.hexdigest()
    return checksums


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
