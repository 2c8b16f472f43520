"""Suites: every shipped one loads; what is left out is said."""

from pathlib import Path

import pytest

from pipeline.config.run_file import load
from pipeline.config.shipped_files import SUITES, shipped_files
from pipeline.config.suites import load_suite
from pipeline.errors import ConfigError


@pytest.mark.parametrize("name", shipped_files(SUITES))
def test_every_shipped_suite_loads_with_a_source(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    names = [*(task.name for task in suite.tasks), *suite.missing]
    assert names
    assert len(set(names)) == len(names)
    assert (SUITES / f"{name}.yaml").read_text().startswith("# ")


def test_a_task_from_elsewhere_is_left_out_until_it_is_there() -> None:
    without = load_suite("pythia")
    assert "logiqa" in without.missing
    assert "logiqa" not in [task.name for task in without.tasks]
    with_it = load_suite("pythia", present=["logiqa"])
    assert "logiqa" not in with_it.missing
    assert [task.name for task in with_it.tasks if task.name == "logiqa"] == ["logiqa"]
    assert len(with_it.tasks) == len(without.tasks) + 1


def test_an_unknown_suite_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"evaluation.suite = 'brown': no such suite; there are "):
        load_suite("brown")


def test_a_run_file_names_a_shipped_suite(run_file: Path) -> None:
    assert load(run_file).evaluation.suite is None
    assert load(run_file, ["evaluation.suite=pythia"]).evaluation.suite == "pythia"
    with pytest.raises(ConfigError, match=r"evaluation.suite = 'brown': no such suite; there are"):
        load(run_file, ["evaluation.suite=brown"])


def test_core_counts_22_scores_and_its_chance_tables_differ_in_three() -> None:
    """Source: mlfoundations/dclm@361714b eval/eval_meta_data.csv and eval_meta_data_v1.csv."""
    names = load_suite("core-v1").missing
    first, second = (load_suite(f"core-{version}", names).tasks for version in ("v1", "v2"))
    assert sum(len(task.shots) for task in first) == 22
    assert [task.model_copy(update={"chance": 0}) for task in first] == [
        task.model_copy(update={"chance": 0}) for task in second
    ]
    assert {
        task.name: (task.chance, other.chance)
        for task, other in zip(first, second, strict=True)
        if task.chance != other.chance
    } == {
        "core_commonsense_qa": (0.2, 0.403),
        "core_agi_eval_lsat_ar": (0.2, 0.25),
        "core_bigbench_language_identification": (0.091, 0.25),
    }


def test_olmes_asks_ten_benchmarks_in_two_ways() -> None:
    tasks = load_suite("olmes").tasks
    benchmarks = {(task.benchmark, task.formulation) for task in tasks}
    assert len(benchmarks) == len(tasks) == 20
