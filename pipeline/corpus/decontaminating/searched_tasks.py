"""The tasks whose questions documents are searched for, and what identifies their questions.

Reads the shipped suites and `items.parquet` of the tasks in `evaluation.tasks_dir`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.config.curation.decontaminate_section import FEWEST_WORDS, Decontaminate
from pipeline.config.run_config import RunConfig
from pipeline.config.suites import load_suite
from pipeline.corpus.decontaminating.item_texts import TaskItems, read_item_texts
from pipeline.corpus.decontaminating.task_groups import members_of
from pipeline.errors import ConfigError, first_of
from pipeline.logs import counted_noun
from pipeline.store.files import file_record, fingerprint
from pipeline.store.records import Json
from pipeline.store.tasks_folder import TasksFolder

MADE_HERE = ("heldout_cloze", "patterns", "arithmetic")
"""Tasks of suites that are not fetched: `evaluate` makes their questions."""
MOST_NAMED = 10


@dataclass(frozen=True)
class SearchedTasks:
    """The tasks whose questions are searched for; instances are sent to workers."""

    tasks_dir: Path
    tasks: tuple[str, ...]
    """Names of tasks, no groups, each once, sorted."""
    fingerprint: str
    """Hash of the questions."""
    fewest_words: int = FEWEST_WORDS
    """Questions with fewer words are not searched for."""

    @property
    def decides(self) -> list[Json]:
        """Everything that decides what is found, for fingerprints.

        The number of words only where it is set, so that data made before it was a setting stay.
        """
        if self.fewest_words == FEWEST_WORDS:
            return [self.fingerprint]
        return [self.fingerprint, self.fewest_words]

    def read(self) -> list[TaskItems]:
        """Return the questions of all tasks. Raises DataError for a damaged or missing file."""
        folder = TasksFolder(self.tasks_dir)
        return [read_item_texts(folder, task, _how_to_fetch(task, folder)) for task in self.tasks]


def names_of_tasks(section: Decontaminate) -> tuple[str, ...]:
    """Return the tasks that a section names, groups and suites expanded, each once, sorted."""
    names = list(section.tasks)
    for suite in section.suites:
        names += [task.name for task in load_suite(suite).tasks if task.name not in MADE_HERE]
    return tuple(sorted({member for name in names for member in members_of(name)}))


def searched_tasks(section: Decontaminate, tasks_dir: Path | None) -> SearchedTasks:
    """Return the tasks that a section names, with the hash of their questions.

    Raises ConfigError where `tasks_dir` is not set or lacks the questions of some tasks.
    """
    names = names_of_tasks(section)
    where = "select.decontaminate"
    if tasks_dir is None:
        raise ConfigError(
            [
                f"{where} needs evaluation.tasks_dir: the folder of the questions. Run `pipeline tasks "
                "fetch SUITE|TASK --to FOLDER` and set it"
            ]
        )
    folder = TasksFolder(tasks_dir)
    missing = [name for name in names if not folder.items(name).is_file()]
    if missing:
        raise ConfigError(
            [
                f"{where}: {tasks_dir} lacks the questions of {first_of(missing, MOST_NAMED)}. Run "
                f"`pipeline tasks fetch {' '.join(missing[:MOST_NAMED])} --to {tasks_dir}`, or name "
                "other tasks"
            ]
        )
    return SearchedTasks(tasks_dir, names, _fingerprint(folder, names), section.fewest_words)


def describe_questions(config: RunConfig) -> dict[str, str | None]:
    """Return the hash of the questions that documents are searched for; nothing without such.

    Its value is None where they are no longer in `evaluation.tasks_dir`.
    """
    if config.select is None or config.select.decontaminate is None:
        return {}
    try:
        tasks = searched_tasks(config.select.decontaminate, config.evaluation.tasks_dir)
    except ConfigError:
        return {"questions of public tasks": None}
    return {"questions of public tasks": tasks.fingerprint}


def short_question_lines(config: RunConfig) -> list[str]:
    """Return a line about the questions that are too short to be searched for; none without such.

    Raises ConfigError and DataError as `searched_tasks` and `SearchedTasks.read`.
    """
    if config.select is None or config.select.decontaminate is None:
        return []
    tasks = searched_tasks(config.select.decontaminate, config.evaluation.tasks_dir)
    lengths = [len(words) for items in tasks.read() for words in items.words]
    short = sum(1 for length in lengths if length < tasks.fewest_words)
    if not short:
        return []
    return [
        f"{short:,} of {counted_noun(len(lengths), 'question')} have fewer than "
        f"{counted_noun(tasks.fewest_words, 'word')} and are not searched for; "
        "select.decontaminate.fewest_words: 1 searches for all"
    ]


def tasks_not_covered(
    section: Decontaminate, scored: Collection[str], tasks_dir: Path | None
) -> list[str]:
    """Return the tasks that are scored, have questions in `tasks_dir`, and are not searched for."""
    covered = names_of_tasks(section)
    members = sorted({member for name in scored for member in members_of(name)})
    if tasks_dir is None:
        return []
    folder = TasksFolder(tasks_dir)
    return [name for name in members if name not in covered and folder.items(name).is_file()]


def _fingerprint(folder: TasksFolder, names: Sequence[str]) -> str:
    """Return the hash of the files of questions."""
    contents: list[list[str]] = []
    for name in names:
        path = folder.items(name)
        status = path.stat()
        contents.append([name, _checksum(path, (status.st_mtime_ns, status.st_size))])
    return fingerprint(contents)


@lru_cache(maxsize=4096)
def _checksum(path: Path, version: tuple[int, int]) -> str:
    """Return the checksum of a file, read once as long as its time of change and size are the same."""
    return file_record(path)["checksum"]


def _how_to_fetch(task: str, folder: TasksFolder) -> str:
    return f"Run `pipeline tasks fetch {task} --to {folder.path}`."
