"""lm-eval's definitions over stored questions: the same requests as lm-eval's own way builds."""

from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from stored_questions import write_small_tasks, write_task

from pipeline.errors import DataError
from pipeline.evaluation.known_tasks import silence_libraries
from pipeline.evaluation.task_data.catalogue import CATALOGUE
from pipeline.evaluation.task_data.split_choice import KEYS
from pipeline.evaluation.task_data.stored_tasks import COLLECTION, QuestionsInFolder
from pipeline.store.tasks_folder import TasksFolder

NAMES = ("copa", "arc_easy", "hellaswag", "winogrande")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TasksFolder:
    return write_small_tasks(tmp_path_factory.mktemp("tasks"))


def built_by_lm_eval(tasks: TasksFolder, name: str, splits: dict[str, str | None]) -> Task:
    """Build a stock task on the same Parquet files in lm-eval's own way, through `datasets`."""
    folder = COLLECTION / str(CATALOGUE[name].definition)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    files = {split: str(path) for split, path in tasks.splits(name).items()}
    member: dict[str, Any] = {"task": name, "dataset_path": "parquet", "dataset_name": None}
    member |= {"dataset_kwargs": {"data_files": files}, **splits}
    return manager.load([{"group": "reference", "task": [member]}])["tasks"][name]


def requests_of(task: Task, shots: int, seed: int) -> list[tuple[Any, ...]]:
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(seed)
    task.build_all_requests(rank=0, world_size=1)
    return [
        (request.arguments, request.doc, request.doc_id, request.idx, request.request_type)
        for request in task.instances
    ]


@pytest.mark.parametrize("name", NAMES)
def test_requests_equal_those_that_lm_eval_builds(tasks: TasksFolder, name: str) -> None:
    with silence_libraries():
        (ours,) = QuestionsInFolder(tasks).build([name])
        splits = {key: ours.config[key] for key in KEYS}
        reference = built_by_lm_eval(tasks, name, splits)
        for shots in (0, 1, 3):
            for seed in (1234, 5):
                assert requests_of(ours, shots, seed) == requests_of(reference, shots, seed)


def test_no_question_is_its_own_example(tasks: TasksFolder) -> None:
    with silence_libraries():
        (task,) = QuestionsInFolder(tasks).build(["copa"])
        for seed in range(5):
            for (context, _), document, *_ in requests_of(task, 11, seed):
                examples, _, asked = context.rpartition("\n\n")
                assert asked == f"{document['premise'][:-1]} therefore"
                assert document["premise"][:-1] not in examples
                assert examples.count("\n\n") == 10


def test_the_definition_is_the_stock_one_but_for_splits(tasks: TasksFolder) -> None:
    with silence_libraries():
        (ours,) = QuestionsInFolder(tasks).build(["hellaswag"])
    assert ours.config.dataset_path == "Rowan/hellaswag"
    assert ours.config.metadata == {
        "version": 1.0,
        "scored_split": "validation",
        "examples_from": "validation, without the question that is scored",
    }
    assert ours.config.training_split is None


def test_a_group_holds_its_tasks(tmp_path: Path) -> None:
    tasks = TasksFolder(tmp_path)
    rows = [
        {"question": f"Is {n} even?", "subject": "s", "choices": ["a", "b", "c", "d"], "answer": 1}
        for n in range(6)
    ]
    for subject in CATALOGUE:
        if CATALOGUE[subject].definition == "mmlu/default":
            write_task(tasks, subject, "mmlu/default", {"dev": rows[:5], "test": rows[5:]})
    with silence_libraries():
        (group,) = QuestionsInFolder(tasks).build(["mmlu_stem"])
    assert group.name == "mmlu_stem"
    members = group.get_all_tasks()
    assert "mmlu_anatomy" in [task.task_name for task in members]
    assert all(task.config.fewshot_split == "dev" for task in members)


def test_missing_and_damaged_questions_name_the_file_and_the_command(tmp_path: Path) -> None:
    tasks = write_small_tasks(tmp_path)
    fetch = f"Run `pipeline tasks fetch sciq --to {tmp_path}`"
    with pytest.raises(DataError, match=f"{tmp_path}/sciq/source.json: no such file.*{fetch}"):
        QuestionsInFolder(tasks).build(["sciq"])
    damaged = tasks.split("copa", "validation")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=f"{damaged}: is damaged or was changed"):
        QuestionsInFolder(tasks).build(["copa"])
    damaged.unlink()
    with pytest.raises(DataError, match=f"{damaged}: cannot be read"):
        QuestionsInFolder(tasks).build(["copa"])
    write_task(tasks, "piqa", "piqa", {"train": [{"goal": "a"}]})
    with pytest.raises(DataError, match="holds train, and piqa scores none of them"):
        QuestionsInFolder(tasks).build(["piqa"])
