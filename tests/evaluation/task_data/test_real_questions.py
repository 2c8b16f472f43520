"""The real questions of PIPELINE_TEST_TASKS, a folder that `pipeline tasks fetch` wrote.

Each is asked as lm-eval asks it by its own way, and scored alike.
"""

import os
from pathlib import Path
from typing import Any

import datasets
import pytest
from byte_model import byte_model, byte_tokenizer
from lm_eval import simple_evaluate
from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from pipeline.evaluation.known_tasks import build_tasks, silence_libraries
from pipeline.evaluation.task_data.catalogue import CATALOGUE
from pipeline.evaluation.task_data.items import item_of
from pipeline.evaluation.task_data.source_records import damaged_questions, read_source
from pipeline.evaluation.task_data.split_choice import KEYS
from pipeline.evaluation.task_data.stored_tasks import COLLECTION
from pipeline.store.environment import user_variable
from pipeline.store.tasks_folder import TasksFolder

NAMES = (
    *("copa", "openbookqa", "piqa", "arc_easy", "hellaswag"),
    *("winogrande", "sciq", "boolq", "mmlu_anatomy"),
    *("arc_challenge", "cb", "rte", "nq_open"),
)
pytestmark = pytest.mark.skipif(
    user_variable("PIPELINE_TEST_TASKS") is None,
    reason="real questions were not asked: PIPELINE_TEST_TASKS, a fetched folder, is not set",
)


@pytest.fixture(scope="module")
def tasks() -> TasksFolder:
    return TasksFolder(Path(os.environ["PIPELINE_TEST_TASKS"]))


def by_lm_eval(tasks: TasksFolder, ours: Task) -> Task:
    """Build a task on the same files in lm-eval's own way, through `datasets`."""
    name = ours.task_name
    folder = COLLECTION / str(CATALOGUE[name].definition)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    files = {split: str(path) for split, path in tasks.splits(name).items()}
    member: dict[str, Any] = {"task": name, "dataset_path": "parquet", "dataset_name": None}
    member |= {"dataset_kwargs": {"data_files": files}, **{key: ours.config[key] for key in KEYS}}
    return manager.load([{"group": "reference", "task": [member]}])["tasks"][name]


def requests_of(task: Task, shots: int) -> list[tuple[Any, ...]]:
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(1234)
    task.build_all_requests(limit=25, rank=0, world_size=1)
    return [(item.arguments, item.doc, item.doc_id, item.idx) for item in task.instances]


@pytest.mark.parametrize("name", NAMES)
def test_requests_equal_those_that_lm_eval_builds(tasks: TasksFolder, name: str) -> None:
    with silence_libraries():
        ours = build_tasks([name], [], tasks.path).single[name]
        reference = by_lm_eval(tasks, ours)
        for shots in (0, 5):
            assert requests_of(ours, shots) == requests_of(reference, shots)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_intact_and_texts_are_those_of_the_requests(
    tasks: TasksFolder, name: str
) -> None:
    assert damaged_questions(tasks, name) == []
    record = read_source(tasks, name)
    assert record is not None
    with silence_libraries():
        task = build_tasks([name], [], tasks.path).single[name]
        requests = requests_of(task, 0)
    document = task.eval_docs[0]
    item = item_of(task, document)
    asked = [arguments for arguments, _, number, _ in requests if number == 0]
    if task.OUTPUT_TYPE == "generate_until":
        assert item["prompt"] == asked[0][0]
    else:
        texts = [f"{context}{answer}" for context, answer in asked]
        assert [f"{item['prompt']}{answer}" for answer in item["answers"]] == texts
    assert len(task.eval_docs) == record["items"]["rows"]


@pytest.mark.full
@pytest.mark.ranks  # lm-eval asks git for the commit of the current folder
@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "nq_open"])
def test_scores_equal_those_of_lm_eval_run(tasks: TasksFolder, name: str, shots: int) -> None:
    model = tiny_language_model()
    with silence_libraries():
        ours = build_tasks([name], [], tasks.path).single[name]
        reference = by_lm_eval(tasks, ours)
        scores = [
            simple_evaluate(
                model=model,
                tasks=[task],
                num_fewshot=shots,
                limit=40,
                task_manager=TaskManager(include_defaults=False),
                bootstrap_iters=0,
            )
            for task in (ours, reference)
        ]
    assert scores[0]["results"][name] == scores[1]["results"][name]
    assert scores[0]["n-shot"] == {name: shots}


def tiny_language_model() -> HFLM:
    """Return a random model that reads bytes."""
    return HFLM(pretrained=byte_model(0), tokenizer=byte_tokenizer(), batch_size=8, device="cpu")


def test_no_split_is_processed_before_it_is_asked(
    tasks: TasksFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty questions of HellaSwag need no pass over its ten thousand."""

    def no_pass(*_: object, **__: object) -> None:
        raise AssertionError("a whole split is processed")

    monkeypatch.setattr(datasets.Dataset, "map", no_pass)
    with silence_libraries():
        built = build_tasks(["hellaswag", "mmlu"], [], tasks.path)
        assert len(requests_of(built.single["hellaswag"], 5)) == 25 * 4
    assert len(built.single) == 58
    (group,) = [asked for asked in built.asked if isinstance(asked, Group)]
    assert group.name == "mmlu"
