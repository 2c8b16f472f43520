"""What a run has recorded beside its settings: two runs that differ in it are not the same."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runs_to_compare import begin_run

from pipeline.reporting.many_runs.compared_run import read_compared_run
from pipeline.reporting.many_runs.recorded_facts import recorded_facts
from pipeline.reporting.many_runs.setting_differences import differing_settings
from pipeline.store.layout import RunFolder

GIT = {"commit": "0123456789abcdef", "dirty": True}


def test_templates_of_one_name_and_other_content_differ(tmp_path: Path) -> None:
    paths = [begin_run(tmp_path / "a"), begin_run(tmp_path / "b", tokenizer="u")]
    for path, is_overlapped in zip(paths, (True, False), strict=True):
        zero = {"stage": 2, "overlap_comm": is_overlapped}
        resolved = {"zero_optimization": zero, "train_batch_size": 4 + is_overlapped}
        RunFolder(path).deepspeed.write_text(json.dumps(resolved))
    runs = [read_compared_run(path) for path in paths]
    differing = {each.name: list(each.values) for each in differing_settings(runs)}
    assert differing.pop("paths.data_dir")
    assert differing == {
        "content of tokenizer": ["t", "u"],
        "deepspeed.zero_optimization.overlap_comm": ["true", "false"],
    }


def test_values_that_change_from_start_to_start_are_all_named(tmp_path: Path) -> None:
    environments: list[Mapping[str, Any]] = [
        {"python": "3.11", "versions": {"torch": "2.1"}, "git": GIT},
        {"python": "3.11", "versions": {"torch": "2.2"}, "git": GIT | {"dirty": False}},
        {"python": "3.11", "versions": {"torch": "2.2"}, "git": None},
    ]
    starts: list[Any] = [
        {"ranks": 2, "environment": each, "device": "CPU"} for each in environments
    ]
    assert recorded_facts(RunFolder(tmp_path), {}, starts) == {
        "ranks": "2",
        "device": "CPU",
        "commit": "0123456789ab with changes, then 0123456789ab",
        "python": "3.11",
        "version of torch": "2.1, then 2.2",
    }
