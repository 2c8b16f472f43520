"""Which checks are asked before which stage, and how what they refuse is put together."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cli import commands, start_checks, status_view
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, DataError, LeaseError, UserError
from pipeline.store.layout import run_folder
from pipeline.store.lease import Lease
from pipeline.store.stages import STAGES
from pipeline.store.table.stage_row import Check, Stage
from pipeline.work.separate_checks import CheckCrashed

HERE = __name__
asked: list[str] = []
"""Names of the checks that were asked, in their order."""


def light(config: RunConfig) -> None:
    asked.append("light")


def refusing(config: RunConfig) -> None:
    asked.append("refusing")
    raise ConfigError(["one.setting = 1: is wrong"])


def also_refusing(config: RunConfig) -> None:
    asked.append("also refusing")
    raise ConfigError(["one.setting = 1: is wrong", "another = 2: is wrong, too"])


def without_data(config: RunConfig) -> None:
    asked.append("without data")
    raise DataError("a folder is missing")


def crashing(config: RunConfig) -> None:
    asked.append("crashing")
    raise CheckCrashed("no verdict")


def heavy(config: RunConfig) -> None:
    asked.append("heavy")


def check(function: Callable[[RunConfig], None], **flags: bool) -> Check:
    return Check(f"{HERE}:{function.__name__}", **flags)


@pytest.fixture(autouse=True)
def nothing_asked_yet() -> None:
    asked.clear()


def test_what_answers_at_once_is_asked_first_and_spares_the_rest(run_file: Path) -> None:
    config = load(run_file)
    start_checks.refuse_mistakes([check(heavy, is_heavy=True), check(light)], config)
    assert asked == ["light", "heavy"]
    asked.clear()
    with pytest.raises(ConfigError):
        start_checks.refuse_mistakes(
            [check(heavy, is_heavy=True), check(refusing), check(light)], config
        )
    assert asked == ["refusing", "light"]


def test_all_that_is_refused_comes_in_one_error(run_file: Path) -> None:
    config = load(run_file)
    with pytest.raises(ConfigError) as told:
        start_checks.refuse_mistakes([check(refusing), check(also_refusing)], config)
    assert told.value.problems == ["one.setting = 1: is wrong", "another = 2: is wrong, too"]
    with pytest.raises(UserError) as told:
        start_checks.refuse_mistakes([check(refusing), check(without_data)], config)
    assert (
        told.value.exit_code,
        "one.setting" in str(told.value),
        "a folder" in str(told.value),
    ) == (2, True, True)
    with pytest.raises(UserError) as told:
        start_checks.refuse_mistakes([check(refusing), check(crashing)], config)
    assert told.value.exit_code == 1, (
        "a check that ends without a verdict is no mistake of the user"
    )


def with_checks(name: str, *checks: Check) -> list[Stage]:
    """Return the real table with other checks of one stage, and none of the others."""
    return [replace(stage, checks=checks if stage.name == name else ()) for stage in STAGES]


def test_a_stage_alone_asks_for_later_stages_what_holds_for_their_settings(run_file: Path) -> None:
    stages = with_checks("train", check(refusing, is_ahead=True), check(without_data))
    with pytest.raises(ConfigError, match=r"one\.setting = 1"):
        commands.run_one(stages, stages[0], run_file, ["executor.workers=1"])
    assert asked == ["refusing"]
    assert not list(run_file.parent.rglob("manifest.json"))
    asked.clear()
    with pytest.raises(UserError, match="a folder is missing"):
        commands.run_all(stages, run_file, ["executor.workers=1"])
    assert asked == ["refusing", "without data"]


def test_an_earlier_stage_that_is_missing_is_named_before_anything_is_asked(run_file: Path) -> None:
    stages = with_checks("train", check(refusing, is_ahead=True))
    with pytest.raises(
        DataError, match="train-tokenizer reads the output of prepare, which is missing"
    ):
        train_tokenizer = next(stage for stage in stages if stage.name == "train-tokenizer")
        commands.run_one(stages, train_tokenizer, run_file, [])
    assert asked == []


def test_a_finished_stage_asks_nothing(run_file: Path) -> None:
    quiet, refuses = with_checks("train"), with_checks("train", check(refusing, is_ahead=True))
    commands.run_one(quiet, quiet[0], run_file, ["executor.workers=1"])
    commands.run_one(refuses, refuses[0], run_file, ["executor.workers=1"])
    assert asked == []


def test_a_watch_checks_before_it_waits_what_an_evaluation_checks(run_file: Path) -> None:
    stages = with_checks("evaluate", check(refusing), check(heavy, is_heavy=True))
    with pytest.raises(ConfigError, match=r"one\.setting = 1: is wrong"):
        commands.watch_run(stages, run_file, [])
    assert asked == ["refusing"]
    with pytest.raises(ConfigError, match=r"none of its \d+ tasks is in"):
        commands.watch_run(STAGES, run_file, ["evaluation.suite=core-v1"])
    assert not (run_file.parent / "run").exists()


def test_an_evaluation_that_is_refused_leaves_the_manifest_of_the_finished_one(
    run_file: Path,
) -> None:
    table = {stage.name: stage for stage in STAGES}
    evaluate = replace(table["evaluate"], inputs=(), checks=(), outside=None)
    run = run_folder(load(run_file))
    run.evaluation.mkdir(parents=True)
    written = {"inputs": {}, "output": "", "counts": {}, "files": {}}
    run.evaluation_manifest.write_text(json.dumps(written))

    # No such checkpoint.
    with pytest.raises(ConfigError, match="holds no complete checkpoint of step 7"):
        commands.run_one([evaluate], evaluate, run_file, ["evaluation.models=[7]"])
    assert json.loads(run.evaluation_manifest.read_text()) == written

    # No such folder.
    missing = run_file.parent / "missing"
    with pytest.raises(ConfigError, match="is no folder"):
        commands.run_one([evaluate], evaluate, run_file, [f"evaluation.models=[{missing}]"])
    assert json.loads(run.evaluation_manifest.read_text()) == written

    # Another evaluation is under way.
    with (
        Lease(run.evaluation, "another evaluation"),
        pytest.raises(LeaseError, match="is in use by `another evaluation`"),
    ):
        commands.run_one([evaluate], evaluate, run_file, [])
    assert json.loads(run.evaluation_manifest.read_text()) == written


@pytest.mark.parametrize("place", ["file", "file/below", "gone", "gone/below"])
@pytest.mark.parametrize("setting", ["data_dir", "run_dir"])
def test_a_folder_that_cannot_be_one_is_refused_by_every_command(
    run_file: Path, setting: str, place: str
) -> None:
    (run_file.parent / "file").write_text("")
    (run_file.parent / "gone").symlink_to("nowhere")
    settings = [f"paths.{setting}={run_file.parent / place}"]
    table = {stage.name: stage for stage in STAGES}
    for command in (
        lambda: commands.run_all(STAGES, run_file, settings),
        lambda: commands.run_one(STAGES, table["export"], run_file, settings),
        lambda: status_view.show_status(STAGES, run_file, settings),
    ):
        with pytest.raises(
            ConfigError, match=rf"paths\.{setting} = .*/{place}: .*/(file|gone) is not a folder"
        ):
            command()
    assert sorted(path.name for path in run_file.parent.iterdir()) == sorted(
        ["file", "gone", "run.yaml", "web.jsonl", "zero1.json"]
    )


def test_a_folder_that_may_not_be_written_is_refused_where_a_waiting_stage_writes(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != run_file.parent / "data")
    (run_file.parent / "data").mkdir()
    config, table = load(run_file), {stage.name: stage for stage in STAGES}
    with pytest.raises(ConfigError, match=r"paths\.data_dir = .*/data: .*/data may not be written"):
        start_checks.refuse_unwritable(config, [table["prepare"], table["train"]])
    start_checks.refuse_unwritable(
        config, [table["train"]]
    )  # finished data may be read-only, and shared


def test_the_real_table_asks_for_model_and_tasks_before_prepare() -> None:
    ahead = {
        check.function.partition(":")[2]
        for stage in STAGES[1:]
        for check in stage.checks
        if check.is_ahead
    }
    assert {"check_settings", "check_model", "check_named_tasks", "check_built_tasks"} <= ahead


@pytest.mark.ranks
def test_no_check_brings_torch_or_lm_eval_into_the_command() -> None:
    modules = sorted(
        {check.function.partition(":")[0] for stage in STAGES for check in stage.checks}
    )
    script = (
        f"import sys, {', '.join(modules)}\nprint({{'torch', 'transformers', 'lm_eval', "
        f"'datasets'}} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "set()\n"


def test_status_shows_the_stage_that_runs(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(run_file)

    def shown() -> dict[str, str]:
        status_view.show_status(STAGES, run_file, [])
        lines = capsys.readouterr().out.splitlines()
        return {line.split()[0]: line.split()[1] for line in lines[1 : 1 + len(STAGES)]}

    with Lease(config.paths.run_dir, "pipeline train"):
        during = shown()
    after = shown()
    assert during == after | {"train": "running"}
    assert after["train"] == after["prepare"] == "missing"
    with Lease(config.paths.data_dir, "pipeline train"):  # holds another folder
        assert shown() == after
