"""Manifests, fingerprints and what decides that a stage is done."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.store import artifacts
from pipeline.store.artifacts import Result
from pipeline.store.environment import environment as environment_now
from pipeline.store.table.stage_row import Stage

READ = Stage(
    name="read",
    help="",
    reads="",
    writes="",
    function="",
    folder=lambda config: config.paths.data_dir / "read",
    settings=("prepare.validation_fraction", "sources"),
    outside="test_artifacts:outside",
)
COUNT = Stage(
    name="count",
    help="",
    reads="",
    writes="",
    function="",
    folder=lambda config: config.paths.data_dir / "count",
    settings=("train.seed",),
    inputs=("read",),
)
TABLE = {stage.name: stage for stage in (READ, COUNT)}


def outside(config: RunConfig) -> dict[str, Any]:
    return {"raw file web.jsonl": (config.paths.data_dir.parent / "web.jsonl").stat().st_size}


def finish(stage: Stage, config: RunConfig, checksum: str = "aa") -> dict[str, Any]:
    files = {"out.bin": {"bytes": 3, "checksum": checksum}}
    inputs = artifacts.expected_inputs(stage, config, TABLE)
    made_from = artifacts.outputs_of(stage.inputs, config, TABLE)
    return artifacts.write_manifest(
        stage, config, inputs, made_from, Result({"headline": "3 bytes"}, files), 1.23456
    )


def kinds(config: RunConfig) -> dict[str, str]:
    return {name: state.kind for name, state in artifacts.stage_states(TABLE, config).items()}


def test_a_stage_is_missing_then_done_then_stale_with_the_fields_name(run_file: Path) -> None:
    config = load(run_file)
    assert kinds(config) == {"read": "missing", "count": "missing"}
    manifest = finish(READ, config)
    assert (manifest["seconds"], manifest["counts"]) == (1.235, {"headline": "3 bytes"})
    assert manifest["environment"]["versions"]["pyarrow"]
    finish(COUNT, config)
    assert kinds(config) == {"read": "done", "count": "done"}

    state = artifacts.stage_states(TABLE, load(run_file, ["train.seed=7"]))["count"]
    assert (state.kind, state.reasons) == ("stale", ("train.seed: 1 -> 7",))
    states = artifacts.stage_states(TABLE, load(run_file, ["prepare.validation_fraction=0.25"]))
    assert states["read"].reasons == ("prepare.validation_fraction: 0.005 -> 0.25",)
    assert states["count"].reasons == ("its input read is stale",)


def test_a_stage_that_is_kept_outlives_its_inputs_and_remembers_them(run_file: Path) -> None:
    config = load(run_file)
    kept = dataclasses.replace(COUNT, keeps_output=True)
    table = {stage.name: stage for stage in (READ, kept)}
    first = finish(READ, config)
    assert finish(kept, config)["made_from"] == {"read": first["output"]}
    second = finish(READ, config, checksum="bb")
    assert second["output"] != first["output"]
    for changed in (config, load(run_file, ["prepare.validation_fraction=0.25"])):
        assert artifacts.stage_states(table, changed)["count"].kind == "done"
    assert artifacts.stage_states(table, load(run_file, ["train.seed=7"]))["count"].kind == "stale"


def test_what_only_says_how_or_where_makes_nothing_stale(run_file: Path, tmp_path: Path) -> None:
    config = load(run_file)
    finish(READ, config)
    (tmp_path / "moved.jsonl").write_bytes((tmp_path / "web.jsonl").read_bytes())
    changed = load(run_file, ["executor.workers=7", f"sources.web.paths=[{tmp_path}/moved.jsonl]"])
    assert artifacts.stage_states(TABLE, changed)["read"].kind == "done"


def test_a_change_outside_and_a_new_format_version_make_stale(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(run_file)
    finish(READ, config)
    size = (tmp_path / "web.jsonl").stat().st_size
    with (tmp_path / "web.jsonl").open("a") as file:
        file.write("x")
    assert artifacts.stage_states(TABLE, config)["read"].reasons == (
        f"raw file web.jsonl: {size} -> {size + 1}",
    )
    finish(READ, config)
    newer = Stage(**{**vars(READ), "version": 2})
    assert artifacts.stage_states({"read": newer}, config)["read"].reasons == (
        "format version: 1 -> 2",
    )


def test_an_input_rebuilt_with_the_same_bytes_makes_nothing_stale(run_file: Path) -> None:
    config = load(run_file)
    finish(READ, config)
    finish(COUNT, config)
    changed = load(run_file, ["prepare.validation_fraction=0.25"])
    finish(READ, changed)  # another setting, the same output
    assert kinds(changed) == {"read": "done", "count": "done"}
    before = artifacts.read_manifest(READ.manifest_path(config))
    after = finish(READ, changed, checksum="bb")
    assert before is not None
    state = artifacts.stage_states(TABLE, changed)["count"]
    assert state.reasons == (f'output of read: "{before["output"]}" -> "{after["output"]}"',)


def test_flatten_names_every_value_and_drops_locations() -> None:
    nested = {
        "a": {"b": 1, "c": {"d": "x"}},
        "at": Path("/x"),
        "several": (Path("/x"), Path("/y")),
        "list": (1, 2),
    }
    nested["none yet"] = ()  # naming the first location must change nothing either
    assert artifacts.flatten(nested, "top") == {"top.a.b": 1, "top.a.c.d": "x", "top.list": (1, 2)}


def test_differences_name_what_appeared_and_what_went() -> None:
    before, after = (
        {"same": 1, "gone": True, "long": "x" * 99},
        {"same": 1, "new": [1], "long": "y"},
    )
    assert artifacts.differences(before, after) == [
        "gone: true -> not set",
        f'long: "{"x" * 36}... -> "y"',
        "new: not set -> [1]",
    ]


def test_the_environment_is_json_with_the_codes_state() -> None:
    environment = json.loads(json.dumps(environment_now()))
    assert {"command", "python", "platform", "versions", "git"} == set(environment)
    assert {"torch", "deepspeed", "transformers", "lm_eval"} <= set(environment["versions"])
