"""The catalogue: every task of every suite is in it; lm-eval defines what it says where it says."""

from pathlib import Path

import pytest
from lm_eval.tasks._index import TaskIndex

from pipeline.config.shipped_files import SUITES, shipped_files
from pipeline.config.suites import load_suite
from pipeline.corpus.decontaminating.task_groups import GROUPS, members_of
from pipeline.evaluation.built_in.built_in_tasks import BUILT_IN
from pipeline.evaluation.task_data.catalogue import (
    CATALOGUE,
    DEFINITIONS_OF_GROUPS,
    close_names,
)
from pipeline.evaluation.task_data.stored_tasks import COLLECTION


@pytest.mark.parametrize("name", shipped_files(SUITES))
def test_every_task_of_a_suite_is_built_in_or_can_be_fetched(name: str) -> None:
    suite = load_suite(name, present=(*CATALOGUE, *GROUPS))
    known = {*BUILT_IN, *CATALOGUE, *GROUPS}
    assert [task.name for task in suite.tasks if task.name not in known] == []


@pytest.mark.parametrize(("suite", "whole"), [("small", 9), ("olmes", 20), ("pythia", 6)])
def test_what_comes_from_the_wheel_alone(suite: str, whole: int) -> None:
    from_wheel = [
        task.name
        for task in load_suite(suite).tasks
        if task.name in BUILT_IN or all(CATALOGUE[name].splits for name in members_of(task.name))
    ]
    assert len(from_wheel) == whole == len(load_suite(suite).tasks)


def test_lm_eval_defines_each_task_where_the_catalogue_says() -> None:
    folders = {task.definition for task in CATALOGUE.values() if task.definition is not None}
    index = TaskIndex.build([COLLECTION / folder for folder in sorted(folders)])
    for name, task in CATALOGUE.items():
        if task.definition is not None:
            path = index[name].yaml_path
            assert path is not None
            assert path.is_relative_to(COLLECTION / Path(task.definition))
    for group, folder in DEFINITIONS_OF_GROUPS.items():
        path = index[group].yaml_path
        assert path is not None
        assert path.parent == COLLECTION / folder
        assert set(members_of(group)) <= CATALOGUE.keys()


def test_a_wrong_name_is_told_the_close_ones() -> None:
    assert close_names("helaswag") == "; did you mean hellaswag or core_hellaswag?"
    assert close_names("zzzzzz") == "."
