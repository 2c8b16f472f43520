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
    assert suite.tasks
    names = [task.name for task in suite.tasks]
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
    with pytest.raises(
        ConfigError, match=r"evaluation.suite = 'brown': .*no such suite; there are"
    ):
        load(run_file, ["evaluation.suite=brown"])
