"""lm-eval's tasks with their questions from `evaluation.tasks_dir`. Imports lm-eval.

A definition stays as lm-eval ships it: its prompt, answers and metrics. Only the data come from
Parquet files, and a split that is not there is replaced (`split_choice.py`). lm-eval's collection is
not indexed: only the folders of the tasks that are asked for.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.api.group import Group
from lm_eval.api.samplers import ContextSampler, get_sampler
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, TaskIndex

from pipeline.corpus.decontaminating.task_groups import GROUPS
from pipeline.errors import DataError
from pipeline.evaluation.task_data.catalogue import CATALOGUE, DEFINITIONS_OF_GROUPS
from pipeline.evaluation.task_data.question_shapes import (
    AskedAs,
    definition_of_shape,
    joined,
    read_questions,
)
from pipeline.evaluation.task_data.source_records import (
    SourceRecord,
    asked_as,
    how_to_fetch,
    read_source,
    read_split,
)
from pipeline.evaluation.task_data.split_choice import choose_splits
from pipeline.evaluation.task_data.stored_rows import StoredRows
from pipeline.store.tasks_folder import TEST, TasksFolder

COLLECTION = Path(lm_eval.tasks.__file__).parent
"""Folder of lm-eval's own definitions."""
Definition = dict[str, Any]
"""A task's definition as lm-eval reads it: texts, numbers, and functions of the task's code."""


class StoredTask(ConfigurableTask):
    """A task of lm-eval whose rows are read when they are asked for."""

    def __init__(
        self, definition: Definition, splits: Mapping[str, StoredRows], checksums: Mapping[str, str]
    ) -> None:
        """Build a task from its definition, and its rows with the checksum of their file by split."""
        self.checksums = dict(checksums)
        self._splits = splits
        self._is_built = False
        super().__init__(config=definition)
        self._is_built = True
        examples = self.fewshot_docs()
        if examples is not None:
            self.sampler = _sampler_over(examples, self.fewshot_cfg.sampler)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Take the rows that are here already."""
        self.dataset = self._splits

    def fewshot_docs(self) -> Any:
        """Return the rows of solved examples; none while lm-eval would read them all."""
        if not self._is_built:
            return None
        return super().fewshot_docs()


def _sampler_over(examples: Any, sampler: str | type[ContextSampler]) -> ContextSampler:
    """Return a sampler that reads only the examples that it draws."""
    kind = sampler
    if isinstance(kind, str):
        kind = get_sampler(kind)
    made = kind(examples, rnd=None)
    made._loaded = True  # else lm-eval makes a list of all examples
    return made


@dataclass(frozen=True)
class QuestionsInFolder:
    """The tasks whose questions are in a folder."""

    tasks: TasksFolder
    records: Mapping[str, SourceRecord] = field(default_factory=dict)
    """Records of tasks whose `source.json` is not written yet."""

    def knows(self, name: str) -> bool:
        """Tell whether a name is in the catalogue, or its questions are in the folder."""
        return name in CATALOGUE or name in GROUPS or self.tasks.source(name).exists()

    def record_of(self, name: str) -> SourceRecord | None:
        """Return the record of a task's questions, or None where they are not here."""
        if name in self.records:
            return self.records[name]
        return read_source(self.tasks, name)

    def rows_of(self, name: str, record: SourceRecord) -> dict[str, StoredRows]:
        """Return a task's rows by split, after a comparison with their checksums."""
        return {
            split: StoredRows(read_split(self.tasks, name, split, record))
            for split in record["files"]
        }

    def build_task(self, definition: Definition) -> StoredTask:
        """Build a task of lm-eval's collection or of ours from its definition.

        Raises DataError where the questions are not here, damaged, or of no split that the
        definition scores.
        """
        name = definition["task"]
        record = self.record_of(name)
        if record is None:
            raise DataError(
                f"{self.tasks.source(name)}: no such file; the questions of {name} are missing. "
                f"{how_to_fetch(name, self.tasks)}"
            )
        choice = choose_splits(definition, record["files"])
        if choice is None:
            have = ", ".join(record["files"])
            raise DataError(
                f"{self.tasks.task(name)}: holds {have}, and {name} scores none of them. "
                f"{how_to_fetch(name, self.tasks)}"
            )
        examples_from = choice.examples_from
        if "fixed_examples" in record:
            examples_from = f"the prompts themselves, {record['fixed_examples']} in each"
        metadata = dict(definition.get("metadata") or {})
        metadata |= {"scored_split": choice.scored, "examples_from": examples_from}
        changed = {**definition, **choice.changes, "metadata": metadata}
        checksums = {split: file["sha256"] for split, file in record["files"].items()}
        return StoredTask(changed, self.rows_of(name, record), checksums)

    def build_shaped(self, name: str, record: SourceRecord) -> StoredTask:
        """Build a task whose questions have a shape of ours."""
        asked = asked_as(record)
        assert asked is not None
        return self.build_task(definition_of_shape(name, asked))

    def build(self, names: Sequence[str]) -> list[Task | Group]:
        """Build the tasks and groups of these names, in their order.

        A name that is in the catalogue or in the folder is known. Raises DataError as `build_task`
        does, and for a definition that lm-eval does not have where the catalogue says.
        """
        index = TaskIndex.build(definition_folders(names))
        factory = _StoredTaskFactory(self)
        built: list[Task | Group] = []
        for name in names:
            record = None
            if name not in DEFINITIONS_OF_GROUPS:
                record = self.record_of(name)
            if record is not None and "shape" in record:
                built.append(self.build_shaped(name, record))
                continue
            if name not in index:
                raise DataError(
                    f"{name}: lm-eval's collection ({COLLECTION}) does not define it where this "
                    f"package looks. {how_to_fetch(name, self.tasks)}"
                )
            made = factory.build(index[name], registry=index)
            assert not isinstance(made, list)
            built.append(made)
        return built


def build_from_file(path: Path) -> StoredTask:
    """Build a task named as a JSONL file of questions.

    Examples come from the same file, without the question that is scored. Raises DataError for a
    file that is missing or holds a wrong question.
    """
    shape, table = read_questions(path)
    table, delimiter = joined(shape, table, " ")
    definition = definition_of_shape(path.stem, AskedAs(shape, delimiter, "\n\n", None))
    choice = choose_splits(definition, [TEST])
    assert choice is not None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return StoredTask({**definition, **choice.changes}, {TEST: StoredRows(table)}, {TEST: digest})


def definition_folders(names: Sequence[str]) -> list[Path]:
    """Return the folders of lm-eval's collection that define these tasks of the catalogue."""
    folders: list[str] = []
    for name in names:
        folder = DEFINITIONS_OF_GROUPS.get(name)
        if name in CATALOGUE:
            folder = CATALOGUE[name].definition
        if folder is not None and folder not in folders:
            folders.append(folder)
    return [COLLECTION / folder for folder in folders]


class _StoredTaskFactory(TaskFactory):
    """lm-eval's factory of tasks and groups, with the questions from a folder."""

    def __init__(self, questions: QuestionsInFolder) -> None:
        super().__init__()
        self._questions = questions

    def _build_task(self, entry: Entry, overrides: dict[str, Any] | None) -> Task:
        definition = self._load_full_config(entry, overrides)
        for key in ("tag", "group", "task_list"):
            definition.pop(key, None)
        # Where this Python keeps its packages does not belong into results.
        definition["metadata"].pop("config_source", None)
        return self._questions.build_task(definition)
