"""Settings that came later change no fingerprint where they are not used."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.run_file import load
from pipeline.corpus.read_task import ReadSettings
from pipeline.corpus.row_settings import RowSettings, row_settings
from pipeline.errors import ConfigError
from pipeline.store.artifacts import expected_inputs
from pipeline.store.files import fingerprint
from pipeline.store.stages import STAGES

FORMER = {
    "source": "web",
    "kind": "jsonl",
    "text_field": "text",
    "split_by": "text",
    "validation_fraction": 0.2,
    "on_broken_file": "stop",
    "shard_text_bytes": 134217728,
    "line_ends": "lf",
}
"""What entered the fingerprint of a task before there was any of the newer settings."""


def inputs_of(**rows: Any) -> Any:
    return ReadSettings(
        "web", "jsonl", RowSettings(**rows), "text", 0.2, "stop", 134217728, "lf"
    ).inputs


def test_a_task_without_newer_settings_has_its_former_fingerprint() -> None:
    assert inputs_of() == FORMER
    # As version 0.1.0 computed it.
    former = fingerprint([4, inputs_of(), [("web.jsonl", 10, 1)]])
    assert former == "017f8eb71ce85d38daf250f86639a348"


@pytest.mark.parametrize(
    "setting",
    [
        {"text_separator": "\n"},
        {"encoding": "cp1252"},
        {"document_bytes": 100},
        {"delimiter": ";"},
    ],
)
def test_a_newer_setting_that_is_used_changes_it(setting: dict[str, Any]) -> None:
    assert inputs_of(**setting) == FORMER | setting


def test_the_stage_without_newer_settings_has_its_former_inputs(run_file: Path) -> None:
    stages = {stage.name: stage for stage in STAGES}
    inputs = expected_inputs(stages["prepare"], load(run_file), stages)
    of_source = {name for name in inputs if name.startswith("sources.web")}
    former = ("kind", "text_field", "split_by", "line_ends", "slice")
    assert of_source == {f"sources.web.{name}" for name in former}
    used = expected_inputs(
        stages["prepare"], load(run_file, ["sources.web.encoding=cp1252"]), stages
    )
    assert used == inputs | {"sources.web.encoding": "cp1252"}


def test_every_setting_of_rows_is_the_sources(run_file: Path) -> None:
    config = load(
        run_file,
        ["sources.web.text_field=[a, b]", "sources.web.text_separator=' '"],
    )
    assert row_settings(config.sources["web"]) == RowSettings(("a", "b"), " ")


@pytest.mark.parametrize("value", ["[]", "5", "[title, 5]", "{title: text}", "null"])
def test_what_names_no_field_is_one_problem(run_file: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"1 problem") as refused:
        load(run_file, [f"sources.web.text_field={value}"])
    assert "must be the name of a field, or a list of names" in str(refused.value)
