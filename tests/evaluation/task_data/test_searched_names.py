"""Tasks that `select.decontaminate` names and that do not exist, or whose questions are not here."""

from pathlib import Path

import pytest

from pipeline.cli.commands import run_one
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.evaluation.task_data.searched_names import check_searched_names
from pipeline.store.artifacts import NOT_AVAILABLE, expected_inputs
from pipeline.store.stages import STAGES
from pipeline.store.tasks_folder import TasksFolder


def loaded(run_file: Path, *settings: str) -> RunConfig:
    base = ["annotate={language: false}", "select={decontaminate: {tasks: [piqaa, piqa, quiz]}}"]
    return load(run_file, [*base, *settings], needs=())


def problems_of(config: RunConfig) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        check_searched_names(config)
    return list(refused.value.problems)


def test_unknown_task_is_named_with_close_names_and_with_the_missing_folder(run_file: Path) -> None:
    first, second, folder = problems_of(loaded(run_file))
    assert first.startswith("select.decontaminate.tasks: 'piqaa' is no public task")
    assert "did you mean" in first
    assert "piqa" in first.partition("did you mean")[2]
    assert "'quiz'" in second
    assert folder.startswith("select.decontaminate needs evaluation.tasks_dir")


def test_task_of_the_folder_exists_and_what_does_not_is_not_to_be_fetched(run_file: Path) -> None:
    tasks_dir = run_file.parent / "tasks"
    items = TasksFolder(tasks_dir).items("quiz")
    items.parent.mkdir(parents=True)
    items.touch()
    config = loaded(run_file, f"evaluation.tasks_dir={tasks_dir}")
    unknown, missing = problems_of(config)
    assert "'piqaa'" in unknown
    assert "lacks the questions of piqa. Run `pipeline tasks fetch piqa --to" in missing
    # Nothing is wrong with those that are there, or where nothing is searched for.
    check_searched_names(
        loaded(run_file, f"evaluation.tasks_dir={tasks_dir}", "select.decontaminate.tasks=[quiz]")
    )
    check_searched_names(loaded(run_file, "select.decontaminate=null"))


def test_questions_that_were_never_read_are_not_available_and_not_null(run_file: Path) -> None:
    table = {stage.name: stage for stage in STAGES}
    inputs = expected_inputs(table["annotate"], loaded(run_file), table, {"format version": 0})
    assert inputs["part contamination"] == NOT_AVAILABLE
    assert inputs["questions of public tasks"] == NOT_AVAILABLE


def test_mistake_is_said_before_the_input_that_it_makes_stale(run_file: Path) -> None:
    settings = ["annotate={language: false}", "select={decontaminate: {tasks: [piqaa]}}"]
    select = next(stage for stage in STAGES if stage.name == "select")
    with pytest.raises(ConfigError, match=r"'piqaa'.*did you mean"):
        run_one(STAGES, select, run_file, settings)


@pytest.mark.parametrize("name", ["annotate", "select"])
def test_both_stages_check_it_ahead(name: str) -> None:
    stage = next(stage for stage in STAGES if stage.name == name)
    ahead = [check.function for check in stage.checks if check.is_ahead]
    assert f"{check_searched_names.__module__}:check_searched_names" in ahead
