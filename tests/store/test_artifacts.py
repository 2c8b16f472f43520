"""Manifests, fingerprints and what decides that a stage is done."""

import dataclasses
import errno
import json
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from helpers import run_stages

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.store import artifacts, checksummed_file
from pipeline.store.artifacts import Result, Stage, temporary_path, write_atomic
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.environment import environment as environment_now
from pipeline.store.events import write_event
from pipeline.store.heartbeat import Heartbeat
from pipeline.store.lease import Lease

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
    return {name: state.kind for name, state in artifacts.states(TABLE, config).items()}


def test_a_stage_is_missing_then_done_then_stale_with_the_fields_name(run_file: Path) -> None:
    config = load(run_file)
    assert kinds(config) == {"read": "missing", "count": "missing"}
    manifest = finish(READ, config)
    assert (manifest["seconds"], manifest["counts"]) == (1.235, {"headline": "3 bytes"})
    assert manifest["environment"]["versions"]["pyarrow"]
    finish(COUNT, config)
    assert kinds(config) == {"read": "done", "count": "done"}

    state = artifacts.states(TABLE, load(run_file, ["train.seed=7"]))["count"]
    assert (state.kind, state.reasons) == ("stale", ("train.seed: 1 -> 7",))
    states = artifacts.states(TABLE, load(run_file, ["prepare.validation_fraction=0.25"]))
    assert states["read"].reasons == ("prepare.validation_fraction: 0.005 -> 0.25",)
    assert states["count"].reasons == ("its input read is stale",)


def test_a_stage_that_is_kept_outlives_its_inputs_and_remembers_them(run_file: Path) -> None:
    config = load(run_file)
    kept = dataclasses.replace(COUNT, keeps=True)
    table = {stage.name: stage for stage in (READ, kept)}
    first = finish(READ, config)
    assert finish(kept, config)["made_from"] == {"read": first["output"]}
    second = finish(READ, config, checksum="bb")
    assert second["output"] != first["output"]
    for changed in (config, load(run_file, ["prepare.validation_fraction=0.25"])):
        assert artifacts.states(table, changed)["count"].kind == "done"
    assert artifacts.states(table, load(run_file, ["train.seed=7"]))["count"].kind == "stale"


def test_what_only_says_how_or_where_makes_nothing_stale(run_file: Path, tmp_path: Path) -> None:
    config = load(run_file)
    finish(READ, config)
    (tmp_path / "moved.jsonl").write_bytes((tmp_path / "web.jsonl").read_bytes())
    changed = load(run_file, ["executor.workers=7", f"sources.web.paths=[{tmp_path}/moved.jsonl]"])
    assert artifacts.states(TABLE, changed)["read"].kind == "done"


def test_a_change_outside_and_a_new_format_version_make_stale(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(run_file)
    finish(READ, config)
    size = (tmp_path / "web.jsonl").stat().st_size
    with (tmp_path / "web.jsonl").open("a") as file:
        file.write("x")
    assert artifacts.states(TABLE, config)["read"].reasons == (
        f"raw file web.jsonl: {size} -> {size + 1}",
    )
    finish(READ, config)
    newer = Stage(**{**vars(READ), "version": 2})
    assert artifacts.states({"read": newer}, config)["read"].reasons == ("format version: 1 -> 2",)


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
    state = artifacts.states(TABLE, changed)["count"]
    assert state.reasons == (f'output of read: "{before["output"]}" -> "{after["output"]}"',)


def test_a_fingerprint_does_not_see_the_order_of_keys() -> None:
    one = {"b": {"y": 1, "x": [1, {"q": 2, "p": 3}]}, "a": None}
    other = {"a": None, "b": {"x": [1, {"p": 3, "q": 2}], "y": 1}}
    assert list(one) != list(other)
    assert artifacts.fingerprint(one) == artifacts.fingerprint(other)


def test_fingerprints_tell_values_apart() -> None:
    values = [
        {},
        [],
        None,
        {"a": 1},
        {"a": "1"},
        {"a": 1.5},
        {"a": [1, 2]},
        {"a": [2, 1]},
        {"a": None},
        {"b": 1},
    ]
    assert len({artifacts.fingerprint(value) for value in values}) == len(values)
    # A fingerprint that changed would make everybody's finished stages stale.
    assert artifacts.fingerprint({"a": 1}) == xxhash.xxh3_128_hexdigest(b'{"a":1}')


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


def test_an_atomic_write_replaces_or_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    artifacts.write_json(path, {"a": 1})
    assert artifacts.read_json(path) == {"a": 1}
    with pytest.raises(TypeError):
        artifacts.write_json(path, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        artifacts.write_atomic(path, "\ud800")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        artifacts.write_atomic(tmp_path / "folder", "x")
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "new"]
    assert artifacts.read_json(path) == {"a": 1}


def test_reading_json_that_is_missing_or_broken(tmp_path: Path) -> None:
    assert artifacts.read_json(tmp_path / "none.json") is None
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": ')
    with pytest.raises(
        DataError, match=r"broken\.json: is damaged .* Delete it to have it made again\."
    ):
        artifacts.read_json(broken)


def test_a_file_record_is_its_size_and_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    # Source: the XXH3 specification's 128-bit value of the empty input, seed 0.
    assert artifacts.file_record(path) == {
        "bytes": 0,
        "checksum": "99aa06d3014798d86001c324468d497f",
    }
    big = os.urandom((4 << 20) + 1)  # one byte more than a block
    path.write_bytes(big)
    assert artifacts.file_record(path) == {
        "bytes": len(big),
        "checksum": xxhash.xxh3_128_hexdigest(big),
    }


def test_a_checksummed_file_records_what_its_sinks_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x"
    file = ChecksummedFile(path)
    assert file.record() == artifacts.file_record(path)  # of nothing
    assert [
        file.write(content)
        for content in (b"", b"abc", memoryview(b"xdex")[1:3], array("i", [1, 2]))
    ] == [
        0,
        3,
        2,
        8,
    ]
    assert (file.tell(), file.closed) == (13, False)
    file.flush()
    assert path.read_bytes() == b"abcde" + array("i", [1, 2]).tobytes()  # nothing waits for the end
    file.fsync()
    file.close()
    assert file.closed
    assert file.record() == artifacts.file_record(path)


def test_a_checksummed_file_is_a_sink_for_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"text": ["a" * 5_000_000, "b"]})
    file = ChecksummedFile(path)
    pq.write_table(table, file, compression="none")
    file.close()
    assert file.record() == artifacts.file_record(path)
    assert pq.read_table(path) == table


@pytest.mark.parametrize("stays_cached", [True, False])
def test_a_file_that_nobody_reads_soon_lets_go_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays_cached: bool
) -> None:
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr(checksummed_file, "PORTION_BYTES", 100)
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: calls.append(("sync", os.fstat(descriptor).st_size))
    )
    monkeypatch.setattr(
        os,
        "posix_fadvise",
        lambda descriptor, *_: calls.append(("drop", os.fstat(descriptor).st_size)),
    )
    content = bytes(range(256)) * 2
    path = tmp_path / "x"
    with ChecksummedFile(path, stays_cached) as file:
        assert [file.write(part) for part in (content[:30], content[30:300], content[300:])] == [
            30,
            270,
            212,
        ]
        assert calls == (
            []
            if stays_cached
            else [(what, n) for n in (130, 230, 400, 500) for what in ("sync", "drop")]
        )
    assert path.read_bytes() == content
    assert file.record() == artifacts.file_record(path)


def test_a_full_disk_is_an_error_of_the_operating_system() -> None:
    file = ChecksummedFile(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left on device") as raised:
        file.write(b"x")
    assert (raised.value.errno, file.tell()) == (errno.ENOSPC, 0)
    file.close()


def test_only_unlisted_files_of_the_pattern_are_removed(tmp_path: Path) -> None:
    for name in ("a/1.bin", "a/2.bin", "a/2.txt", "b/3.bin"):
        artifacts.write_atomic(tmp_path / name, "")
    artifacts.remove_unlisted(tmp_path, ["a/1.bin"], ["*/*.bin"])
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["a/1.bin", "a/2.txt"]


def test_the_environment_is_json_with_the_codes_state() -> None:
    environment = json.loads(json.dumps(environment_now()))
    assert {"command", "python", "platform", "versions", "git"} == set(environment)
    assert {"torch", "deepspeed", "transformers", "lm_eval"} <= set(environment["versions"])


def test_temporary_names_are_hidden_and_never_the_same(tmp_path: Path) -> None:
    one, other = (temporary_path(tmp_path / "a.bin") for _ in range(2))
    assert one != other
    assert one.name.startswith(f".a.bin.{os.getpid()}-") and one.suffix == ".partial"


@pytest.fixture(params=[0o027, 0o002, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> set[int]:
    """Return the permissions of all files below a folder."""
    return {
        path.stat().st_mode & 0o777
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_the_umask_decides_who_may_read_what_is_written(tmp_path: Path, umask: int) -> None:
    write_atomic(tmp_path / "new" / "file", "x")
    write_event(tmp_path, "start")
    Heartbeat(tmp_path / "run", 0).beat("x")
    with Lease(tmp_path / "held", "x"):
        assert modes(tmp_path) == {0o666 & ~umask}
    write_atomic(tmp_path / "new" / "file", "x", mode=0o600)
    assert modes(tmp_path / "new") == {0o600}


@pytest.mark.parametrize("umask", [0o002], indirect=True)
def test_stages_write_as_the_umask_says(run_file: Path, umask: int) -> None:
    run_stages(run_file, ["prepare", "train-tokenizer", "tokenize"], [])
    assert modes(run_file.parent / "data") == {0o666 & ~umask}
    folders = [path for path in (run_file.parent / "data").rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o777 & ~umask}


def test_only_a_damaged_file_is_to_be_deleted(tmp_path: Path) -> None:
    """Not what stands in the way of it, and not one that this user may not read, or that is a
    folder."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "damaged").write_text("{")
    (tmp_path / "nested").write_text("[" * 50_000)
    (tmp_path / "loop").symlink_to("loop")
    advice = {}
    for name in (
        "file/data/documents/manifest.json",
        "file/x",
        "folder",
        "loop",
        "damaged",
        "nested",
    ):
        with pytest.raises(DataError) as error:
            artifacts.read_json(tmp_path / name)
        advice[name] = "elete" in str(error.value)
    assert [name for name, is_deleted in advice.items() if is_deleted] == ["damaged", "nested"]
    with pytest.raises(DataError, match=f"{tmp_path / 'file'} is no folder"):
        artifacts.read_json(tmp_path / "file" / "data" / "manifest.json")
