"""Tasks that cannot be scored are refused before there is a model: misspelt, without data, with too
many examples."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from facts_by_hand import facts_of_no_model
from own_tasks import GENERATION, write_task
from stored_questions import COPA, write_small_tasks
from stored_questions import write_task as write_stored

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.evaluation import known_tasks, task_facts
from pipeline.evaluation.task_check import check_tasks
from pipeline.evaluation.task_facts import check_built_tasks, check_named_tasks
from pipeline.store.artifacts import expected_inputs
from pipeline.store.stages import STAGES
from pipeline.work import separate_checks


@pytest.fixture
def tasks(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for task files; lm-eval's own collection, whose index takes 20 s, counts as
    empty."""

    find_anywhere = known_tasks.find_tasks

    def find(names: list[str], folders: list[Path]) -> object:
        return find_anywhere(names, folders, collections=(False,))

    monkeypatch.setattr(known_tasks, "find_tasks", find)
    folder = run_file.parent / "tasks"
    folder.mkdir()
    return folder


def settings(run_file: Path, names: str, *overrides: str) -> RunConfig:
    return load(
        run_file,
        [
            f"evaluation.tasks=[{names}]",
            f"evaluation.task_paths=[{run_file.parent / 'tasks'}]",
            *overrides,
        ],
    )


def test_tasks_that_can_be_scored_tell_what_they_will_ask(run_file: Path, tasks: Path) -> None:
    write_task(tasks, "parity")
    write_task(tasks, "parity_in_words", **GENERATION)
    assert check_tasks(settings(run_file, "arithmetic, parity, parity_in_words")) == {
        "generated_tokens": {"parity_in_words": 8}
    }


@pytest.mark.parametrize(
    ("changes", "names", "setting", "reason"),
    [
        ({}, "paritty", r"evaluation\.tasks: 'paritty'", r"did you mean parity"),
        (
            {"dataset_path": "nobody/has-these-questions"},
            "parity",
            r"evaluation\.tasks: 'parity'",
            "HF_DATASETS_OFFLINE=0",
        ),
        ({"test_split": "exam"}, "parity", r"evaluation\.tasks: 'parity'", "KeyError: 'exam'"),
        ({"doc_to_choice": "{{options}}"}, "parity", r"evaluation\.tasks: 'parity'", "cannot be built here"),
        ({"metric_list": [{"metric": "accc"}]}, "parity", r"evaluation\.tasks: 'parity'", "cannot be built here"),
        ({"unsafe_code": True}, "parity", r"evaluation\.tasks: 'parity'", "code that the model writes"),
        # Six questions, of which one is the asked one.
        ({}, "parity", r"evaluation\.shots = 6: 'parity'", "set fewer"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_scored_is_refused(
    run_file: Path, tasks: Path, changes: dict[str, object], names: str, setting: str, reason: str
) -> None:
    write_task(tasks, "parity", **changes)
    with pytest.raises(ConfigError, match=f"{setting}.*{reason}"):
        check_tasks(settings(run_file, names, "evaluation.shots=[0, 6]"))


def test_a_task_that_fixes_its_examples_is_asked_with_these_alone(
    run_file: Path, tasks: Path
) -> None:
    write_task(tasks, "parity", num_fewshot=0)
    assert check_tasks(settings(run_file, "parity", "evaluation.shots=[6]")) == {
        "generated_tokens": {}
    }


def test_a_group_and_its_member_are_one_too_many(run_file: Path, tasks: Path) -> None:
    write_task(tasks, "parity")
    (tasks / "all.yaml").write_text("group: all_of_them\ntask: [parity]\n")
    check_tasks(settings(run_file, "all_of_them", "evaluation.shots=[0]"))
    with pytest.raises(ConfigError, match=r"evaluation\.tasks: parity comes twice"):
        check_tasks(settings(run_file, "parity, all_of_them", "evaluation.shots=[0]"))
    with pytest.raises(ConfigError, match=r"evaluation\.tasks: pattern_copy is a part of patterns"):
        check_named_tasks(settings(run_file, "pattern_copy, patterns"))
    with pytest.raises(ConfigError, match=r"evaluation\.shots: 129 is more than the 128 solved"):
        check_named_tasks(settings(run_file, "arithmetic", "evaluation.shots=[129]"))
    with pytest.raises(ConfigError, match=r"evaluation\.task_paths: .*/nowhere is not a folder"):
        check_named_tasks(
            load(run_file, [f"evaluation.task_paths=[{run_file.parent / 'nowhere'}]"])
        )


def test_what_is_generated_has_to_leave_room_for_the_question(
    run_file: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(module: str, configs: Sequence[RunConfig]) -> list[dict[str, object]]:
        (config,) = configs
        asked.append(module.rpartition(".")[2])
        positions = config.model.config.get("max_position_embeddings")
        facts = facts_of_no_model(positions=positions)
        verdict = {
            "problems": [],
            "facts": facts if "model" in asked[-1] else {"generated_tokens": {"parity": 8}},
        }
        return [verdict]

    monkeypatch.setattr(separate_checks, "_ask", ask)
    check_built_tasks(settings(run_file, "arithmetic"))
    assert asked == [], "nothing has to be built for the tasks of this project"
    for positions, refused in ((8, True), (9, False), ("null", False)):
        config = settings(run_file, "parity", f"model.config.max_position_embeddings={positions}")
        if not refused:
            check_built_tasks(config)
            continue
        with pytest.raises(
            ConfigError, match=r"evaluation\.tasks: 'parity' .* 8 tokens, but its context holds 8"
        ):
            check_built_tasks(config)
    assert asked == ["task_check", "model_check", "model_check", "model_check"]
    write_task(tasks, "parity")  # another file in a folder of tasks
    check_built_tasks(settings(run_file, "parity"))
    monkeypatch.setenv("HF_HOME", str(tasks))
    check_built_tasks(settings(run_file, "parity"))
    assert asked.count("task_check") == 3
    assert task_facts.foreign_tasks(settings(run_file, "parity, parity, heldout_cloze")) == [
        "parity"
    ]


@pytest.mark.parametrize("name", ["parity.yaml", "questions.jsonl", "functions.py"])
def test_scores_are_made_again_when_a_file_of_their_task_has_changed(
    run_file: Path, tasks: Path, name: str
) -> None:
    write_task(tasks, "parity")
    config, stages = settings(run_file, "parity"), {stage.name: stage for stage in STAGES}
    inputs = expected_inputs(stages["evaluate"], config, stages)
    (tasks / "__pycache__").mkdir()
    (tasks / "__pycache__" / "functions.pyc").write_text("made by a run")
    assert expected_inputs(stages["evaluate"], config, stages) == inputs
    with (tasks / name).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert expected_inputs(stages["evaluate"], config, stages) != inputs


def test_what_a_run_writes_below_a_folder_of_tasks_is_no_file_of_theirs(
    run_file: Path, tasks: Path
) -> None:
    config = settings(run_file, "parity", f"paths.run_dir={tasks / 'run'}")
    before = task_facts.describe_task_files(config)
    config.paths.run_dir.mkdir()
    (config.paths.run_dir / "metrics.jsonl").write_text("{}\n")
    assert task_facts.describe_task_files(config) == before
    assert task_facts.describe_task_files(settings(run_file, "arithmetic")) == {}
    tasks.rename(tasks.with_name("elsewhere"))
    assert list(task_facts.describe_task_files(config).values()) == [
        None
    ]  # no reason to score again


def test_missing_questions_are_told_before_anything_runs(run_file: Path, tmp_path: Path) -> None:
    """The file that is missing, all tasks that lack it, and the command that brings them."""
    tasks = write_small_tasks(tmp_path / "tasks_dir")
    at = [f"evaluation.tasks_dir={tasks.path}"]
    check_named_tasks(load(run_file, ["evaluation.tasks=[copa, arithmetic]", *at]))
    with pytest.raises(ConfigError) as raised:
        check_named_tasks(load(run_file, ["evaluation.tasks=[copa, sciq, mmlu_stem]", *at]))
    (problem,) = raised.value.problems
    assert f"{tasks.path}/sciq/source.json does not exist" in problem
    assert f"pipeline tasks fetch sciq mmlu_stem --to {tasks.path}" in problem
    with pytest.raises(ConfigError, match="pipeline tasks fetch pythia --to"):
        check_named_tasks(load(run_file, ["evaluation.suite=pythia", *at]))
    with pytest.raises(ConfigError, match=r"which is not set.*pipeline tasks fetch pythia --to"):
        check_named_tasks(load(run_file, ["evaluation.suite=pythia"]))
    check_named_tasks(load(run_file, ["evaluation.suite=quickstart"]))
    with pytest.raises(ConfigError, match=r"none of its 21 tasks is in .*--from FOLDER"):
        check_named_tasks(load(run_file, ["evaluation.suite=core-v2", *at]))
    with pytest.raises(ConfigError, match=r"none.jsonl: no such file; give a JSONL file"):
        check_named_tasks(load(run_file, ["evaluation.tasks=[none.jsonl]"]))


def test_each_task_is_checked_with_the_examples_of_its_suite(
    run_file: Path, tmp_path: Path
) -> None:
    tasks = write_small_tasks(tmp_path / "tasks_dir")
    overrides = [f"evaluation.tasks_dir={tasks.path}", "evaluation.tasks=[copa, winogrande]"]
    assert check_tasks(load(run_file, overrides)) == {"generated_tokens": {}}
    with pytest.raises(ConfigError, match=r"evaluation.shots = 12: 'copa' cannot put a question"):
        check_tasks(load(run_file, [*overrides, "evaluation.shots=[6, 12]"]))


def test_scores_are_made_again_when_questions_have_changed(run_file: Path, tmp_path: Path) -> None:
    tasks = write_small_tasks(tmp_path / "tasks_dir")
    own = tmp_path / "own.jsonl"
    own.write_text("{}\n")
    config = load(
        run_file,
        [f"evaluation.tasks_dir={tasks.path}", f"evaluation.tasks=[copa, {own}]"],
    )
    before = task_facts.describe_task_files(config)
    assert set(before) == {"questions of copa", f"questions in {own}"}
    assert task_facts.describe_task_files(config) == before
    own.write_text("{} \n")
    write_stored(tasks, "copa", "super_glue/copa", {"validation": COPA[1:]})
    after = task_facts.describe_task_files(config)
    assert all(after[name] != before[name] for name in before)
    own.unlink()
    assert task_facts.describe_task_files(config)[f"questions in {own}"] is None
