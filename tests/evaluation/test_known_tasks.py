"""Where tasks come from, in their order; what identifies a task."""

import inspect
import json
from pathlib import Path
from types import FunctionType

import pytest
from own_tasks import write_task as write_task_file
from stored_questions import COPA, write_small_tasks, write_task

from pipeline.errors import ConfigError
from pipeline.evaluation.known_tasks import (
    build_tasks,
    find_tasks,
    own_code,
    task_identity,
)
from pipeline.evaluation.task_data.stored_tasks import StoredTask
from pipeline.store.tasks_folder import TasksFolder

QUESTION = {"query": "1 plus 1 is", "choices": ["2", "3"], "gold": 0}


@pytest.fixture
def tasks(tmp_path: Path) -> TasksFolder:
    return write_small_tasks(tmp_path / "tasks_dir")


def test_files_folders_and_stored_questions_are_searched_in_this_order(
    tmp_path: Path, tasks: TasksFolder
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    write_task_file(folder, "parity")
    write_task_file(folder, "copa")  # a task of one's own comes before lm-eval's
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps(QUESTION) + "\n" + json.dumps({**QUESTION, "gold": 1}) + "\n")
    names = [str(path), "parity", "copa", "arc_easy"]
    built = build_tasks(names, [folder], tasks.path)
    assert [task.task_name for task in built.asked] == ["sums", "parity", "copa", "arc_easy"]
    stored = [name for name, task in built.single.items() if isinstance(task, StoredTask)]
    assert stored == ["sums", "arc_easy"]


def test_every_problem_is_told_at_once(tmp_path: Path, tasks: TasksFolder) -> None:
    tasks.split("copa", "validation").unlink()
    path = tmp_path / "sums.jsonl"
    path.write_text('{"query": 1}\n')
    with pytest.raises(ConfigError) as raised:
        build_tasks([str(path), "copa", "sciq", "arc_easy", "arc_easy"], [], tasks.path)
    wrong_shape, gone, missing, twice = raised.value.problems
    assert "sums.jsonl, line 1: has query. A question is" in wrong_shape
    assert "validation.parquet: cannot be read" in gone
    assert "sciq/source.json: no such file" in missing
    assert "pipeline tasks fetch sciq" in missing
    assert twice.startswith("evaluation.tasks: arc_easy comes twice")


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("heldout_cloz", "did you mean heldout_cloze?"),
        ("pattern", "did you mean patterns or "),
        ("cop", "did you mean copa?"),
        ("mmlu_stm", "did you mean mmlu_stem or "),
    ],
)
def test_an_unknown_task_is_named_with_the_close_ones_once(
    tmp_path: Path, wrong: str, hint: str
) -> None:
    """Searched in a folder with the task `copa` alone: lm-eval's whole collection takes 20 s."""
    write_task_file(tmp_path, "copa")
    with pytest.raises(ConfigError) as raised:
        find_tasks([wrong], [tmp_path], collections=(False,))
    (problem,) = raised.value.problems
    assert f"{wrong!r} is not a built-in task" in problem
    assert hint in problem


def test_the_identity_follows_the_questions_and_not_their_place(
    tmp_path: Path, tasks: TasksFolder
) -> None:
    def identity(folder: TasksFolder) -> str:
        return task_identity(build_tasks(["copa"], [], folder.path).single["copa"])

    first = identity(tasks)
    moved = TasksFolder(tmp_path / "moved")
    tasks.path.rename(moved.path)
    assert identity(moved) == first
    task = build_tasks(["copa"], [], moved.path).single["copa"]
    task.set_config("num_fewshot", 5)
    assert task_identity(task) == first
    write_task(moved, "copa", "super_glue/copa", {"validation": COPA[1:]})
    assert identity(moved) != first


def test_the_identity_is_the_same_where_functions_lie_elsewhere_in_memory(
    tasks: TasksFolder,
) -> None:
    """As in another process. HellaSwag's definition names a function, its examples' another one."""
    for name in ("hellaswag", "copa"):
        task = build_tasks([name], [], tasks.path).single[name]
        before = task_identity(task)
        moved = 0
        for settings in (task.config, task.config.fewshot_config):
            for key, value in vars(settings).items():
                if inspect.isfunction(value):
                    copy = FunctionType(value.__code__, value.__globals__, value.__name__)
                    setattr(settings, key, copy)
                    moved += 1
        assert moved > 1
        assert task_identity(task) == before


def test_code_of_ones_own_tasks_is_named(tmp_path: Path, tasks: TasksFolder) -> None:
    folder = tmp_path / "own"
    write_task_file(folder, "parity")
    built = build_tasks(["parity", "hellaswag"], [folder], tasks.path)
    assert own_code(built, []) == [folder / "jsonl_task.py"]
    assert own_code(built, [folder]) == []


OWN_CODE = {
    "a metric": "metric_list: [{metric: !function mine.f, aggregation: mean}]\n",
    "an aggregation": "metric_list: [{metric: acc, aggregation: !function mine.f}]\n",
    "a filter": (
        "filter_list: [{name: own, filter: [{function: custom, filter_fn: !function mine.f}]}]\n"
    ),
    "the text": "doc_to_text: !function mine.f\n",
}


OWN_CLASS = """
from lm_eval.api.task import ConfigurableTask


class Own(ConfigurableTask):
    def __init__(self, config):
        super().__init__(config={name: config[name] for name in config if name != "class"})
"""


@pytest.mark.parametrize("name", OWN_CODE)
def test_code_is_named_wherever_a_definition_names_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "own"
    write_task_file(folder, "parity")
    (folder / "mine.py").write_text("def f(*values):\n    return 0\n")
    with (folder / "parity.yaml").open("a") as file:
        file.write(OWN_CODE[name])
    built = build_tasks(["parity"], [folder])
    assert own_code(built, []) == [folder / "jsonl_task.py", folder / "mine.py"]


def test_the_code_of_a_task_that_is_a_class_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    write_task_file(folder, "parity")
    settings = (folder / "parity.yaml").read_text()
    (folder / "mine.py").write_text(OWN_CLASS)
    (folder / "parity.yaml").write_text(f"{settings}class: !function mine.Own\n")
    built = build_tasks(["parity"], [folder])
    assert type(built.single["parity"]).__name__ == "Own"
    assert own_code(built, []) == [folder / "jsonl_task.py", folder / "mine.py"]


def test_the_identity_follows_all_code_of_a_task(tmp_path: Path) -> None:
    """A function that the definition does not name, but the named one calls, counts as well."""

    def identity(helper: str) -> str:
        folder = tmp_path / helper
        folder.mkdir()
        code = f"def helper(doc):\n    return {helper!r}\n\n\ndef words(doc):\n    return helper(doc)\n"
        write_task_file(folder, "parity")
        (folder / "words.py").write_text(code)
        with (folder / "parity.yaml").open("a") as file:
            file.write("description: ''\nprocess_results: !function words.words\n")
        return task_identity(build_tasks(["parity"], [folder]).single["parity"])

    assert identity("even") != identity("odd")


PLACES = {
    "filter": (
        "filter_list: [{name: own, filter: [{function: custom, filter_fn: !function words.words}]}]"
    ),
    "metric": (
        "metric_list: [{metric: acc, aggregation: !function words.words, higher_is_better: true}]"
    ),
    "class": "class: !function words.OwnTask",
}


@pytest.mark.parametrize("place", PLACES)
def test_code_anywhere_in_a_definition_and_modules_beside_it_count_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The modules `helper_of_*` lie beside the named one, which imports them."""
    folder = tmp_path / "own"
    changes = {"metric_list": None} if place == "metric" else {}
    write_task_file(folder, "parity", **changes)
    text = (folder / "parity.yaml").read_text().replace("metric_list: null\n", "")
    (folder / "parity.yaml").write_text(f"{text}{PLACES[place]}\n")
    (folder / "words.py").write_text(
        "from lm_eval.api.task import ConfigurableTask\n"
        f"import helper_of_{place}\n\n"
        "def words(*arguments):\n    return 0.0\n\n"
        "class OwnTask(ConfigurableTask):\n    def __init__(self, config):\n"
        "        del config['class']\n        super().__init__(config=config)\n"
    )
    helper = folder / f"helper_of_{place}.py"
    helper.write_text("A = 1\n")
    monkeypatch.syspath_prepend(folder)
    built = build_tasks(["parity"], [folder])
    assert own_code(built, []) == [helper, folder / "jsonl_task.py", folder / "words.py"]
    before = task_identity(built.single["parity"])
    assert task_identity(built.single["parity"]) == before
    helper.write_text("A = 2\n")
    assert task_identity(built.single["parity"]) != before
