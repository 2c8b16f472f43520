"""The stage `pack`: what it writes, what it takes as done, what it does not do twice."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import digests, run_stages
from token_files import write_shard

from pipeline.cli import commands, status_view
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError, LeaseError, TasksFailed
from pipeline.sampling.pack import pack, read_packing, rows_path
from pipeline.sampling.packed_rows import PackedRows
from pipeline.store import artifacts
from pipeline.store.files import read_json
from pipeline.store.layout import data_folder, task_records
from pipeline.store.lease import Lease
from pipeline.store.stages import STAGES


def pack_all(config: RunConfig) -> dict[str, Any]:
    """Pack, and return the manifest of the index."""
    pack(config)
    packing = read_packing(config)
    assert packing is not None
    return packing


@pytest.fixture
def make_tokens(run_file: Path) -> Callable[..., RunConfig]:
    """Return a function that writes tokens as the stage would: `{shard: lengths}` of the source
    `web`; `L` is 8."""

    def make(shards: dict[str, Sequence[int]], workers: int = 1) -> RunConfig:
        config = load(run_file, [f"executor.workers={workers}"])
        folder = config.paths.data_dir / "tokens"
        files = {}
        for name, lengths in shards.items():
            for suffix, record in write_shard(folder / "web" / name, lengths).items():
                files[f"web/{name}{suffix}"] = record
        (folder / "manifest.json").write_text(json.dumps({"files": files}))
        return config

    return make


SHARDS = {"train_1": [5, 5, 20, 1], "validation_0": [30], "train_0": [9, 3]}


def test_the_manifest_says_what_was_packed(make_tokens: Callable[..., RunConfig]) -> None:
    config = make_tokens(SHARDS)
    manifest = pack_all(config)
    folder = config.paths.data_dir / "packing" / "best-fit-8"
    assert manifest == read_json(folder / "manifest.json")
    # train_0: 8 | 2. train_1: 4 + 4 | 8 | 8 | 3, the document of 19 positions being cut into 8, 8
    # and 3.
    assert manifest["sources"] == {
        "web": {
            "shards": [["train_0", 2], ["train_1", 4]],
            "documents": 6,
            "cut_documents": 1,
            "positions": 37,
            "pieces": 7,
            "rows": 6,
            "padding_positions": 11,
        }
    }
    assert manifest["sequence_length"] == 8
    assert sorted(digests(folder)) == ["web/train_0.rows", "web/train_1.rows"]
    rows = PackedRows(rows_path(folder, "web", "train_1"), 8, sum(SHARDS["train_1"]))
    assert [rows.pieces(row)[0].tolist() for row in range(4)] == [[10], [18], [0, 5], [26]]


@pytest.mark.ranks
def test_one_worker_and_two_write_the_same(
    make_tokens: Callable[..., RunConfig], tmp_path: Path
) -> None:
    lengths = np.random.default_rng(2).geometric(0.1, (3, 500)).tolist()
    shards = {f"train_{i}": of_shard for i, of_shard in enumerate(lengths)}
    made = []
    for workers in (1, 2):
        config = make_tokens(shards, workers)
        manifest = pack_all(config)
        folder = data_folder(config).packing(8)
        made.append((manifest, digests(folder), (folder / "manifest.json").read_bytes()))
        shutil.rmtree(config.paths.data_dir)
    assert made[0] == made[1]


PACKED = ["data.packing=best-fit"]


def status_of(run_file: Path, *overrides: str) -> dict[str, artifacts.StageState]:
    """Return the state of every stage with best-fit packing, files looked at."""
    table = {stage.name: stage for stage in STAGES}
    return artifacts.stage_states(table, load(run_file, [*PACKED, *overrides]), look_at=table)


@pytest.mark.ranks
def test_what_is_finished_is_only_read(make_run: Callable[..., Path]) -> None:
    run_file = make_run()
    folder = data_folder(load(run_file)).packing(load(run_file).data.sequence_length)
    run_stages(run_file, ["pack"], PACKED)
    manifest = read_packing(load(run_file))
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    with Lease(folder.parents[1], "another job"):
        run_stages(run_file, ["pack"], PACKED)
        assert before == {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
        shutil.rmtree(task_records(folder))
        run_stages(run_file, ["pack"], PACKED)
        assert read_packing(load(run_file)) == manifest
        shutil.rmtree(folder / "prose")
        with pytest.raises(LeaseError, match="in use by `another job`"):
            run_stages(run_file, ["pack"], PACKED)
    run_stages(run_file, ["pack"], PACKED)
    assert read_packing(load(run_file)) == manifest
    assert before.keys() == {folder, *folder.rglob("*")}


@pytest.mark.ranks
def test_an_index_without_the_stages_manifest_is_done(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """As `train` left it before packing was a stage: also where data_dir may only be read."""
    run_file = make_run()
    assert status_of(run_file)["pack"].kind == "missing"
    run_stages(run_file, ["pack"], PACKED)
    made = status_of(run_file)["pack"]
    config = load(run_file)
    folder = data_folder(config).packing(config.data.sequence_length)
    (folder / "pack.manifest.json").unlink()
    before = digests(folder)
    found = status_of(run_file)["pack"]
    assert (found.kind, found.reasons) == ("done", ())
    assert found.manifest is not None and made.manifest is not None
    assert found.manifest["counts"] == made.manifest["counts"]
    assert found.manifest["files"].keys() == made.manifest["files"].keys()
    capsys.readouterr()
    with Lease(config.paths.data_dir, "another job"):
        run_stages(run_file, ["pack"], PACKED)
    assert "pack: done already: " in capsys.readouterr().err
    status_view.show_status(STAGES, run_file, PACKED)
    assert "pack             done" in capsys.readouterr().out, "its seconds are not known"
    assert not (folder / "pack.manifest.json").exists()
    assert digests(folder) == before
    next(folder.glob("prose/*.rows")).unlink()
    assert status_of(run_file)["pack"].kind == "missing"
    run_stages(run_file, ["pack"], PACKED)
    assert status_of(run_file)["pack"].kind == "done"
    assert digests(folder) == before


@pytest.mark.ranks
def test_an_index_of_which_something_was_deleted_is_completed(
    make_run: Callable[..., Path],
) -> None:
    run_file = make_run()
    config = load(run_file)
    folder = data_folder(config).packing(config.data.sequence_length)
    run_stages(run_file, ["pack"], PACKED)
    made = read_packing(config)
    for name in ("manifest.json", "prose"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert status_of(run_file)["pack"].kind == "stale"
        run_stages(run_file, ["pack"], PACKED)
        assert read_packing(config) == made
        assert status_of(run_file)["pack"].kind == "done"


@pytest.mark.ranks
def test_several_sequence_lengths_lie_side_by_side(make_run: Callable[..., Path]) -> None:
    run_file = make_run()
    longer = ["data.sequence_length=128", "batch.global_batch_tokens=512"]
    run_stages(run_file, ["pack"], PACKED)
    assert status_of(run_file, *longer)["pack"].kind == "missing"
    run_stages(run_file, ["pack"], [*PACKED, *longer])
    assert status_of(run_file)["pack"].kind == status_of(run_file, *longer)["pack"].kind == "done"
    data_dir = load(run_file).paths.data_dir
    assert len(list(data_dir.glob("packing/*/pack.manifest.json"))) == 2
    assert len(list(data_dir.glob(".pack-best-fit-*.seconds.json"))) == 2


@pytest.mark.ranks
def test_windows_of_the_stream_need_no_packing(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run_file = make_run()
    data_dir = load(run_file).paths.data_dir
    with Lease(data_dir, "another job"):
        run_stages(run_file, ["pack"], [])
    assert "pack: not asked for" in capsys.readouterr().err
    assert not (data_dir / "packing").exists()
    status_view.show_status(STAGES, run_file, [])
    assert "pack             not asked for" in capsys.readouterr().out


@pytest.mark.ranks
def test_training_does_not_pack_but_names_the_stage(make_run: Callable[..., Path]) -> None:
    run_file = make_run()
    table = {stage.name: stage for stage in STAGES}
    with pytest.raises(
        DataError, match=r"train reads the output of pack, which is missing\nRun `pipeline pack`"
    ):
        commands.run_one(STAGES, table["train"], run_file, PACKED)
    assert not (load(run_file).paths.data_dir / "packing").exists()
    assert "output of pack" not in artifacts.expected_inputs(
        table["train"], load(run_file, PACKED), table
    )


@pytest.mark.ranks
def test_stale_tokens_are_not_packed(make_run: Callable[..., Path]) -> None:
    run_file = make_run()
    stale = [*PACKED, "tokens.parse_special_tokens=true"]
    with pytest.raises(
        DataError,
        match=r"pack reads the output of tokenize, which is stale\n.*parse_special_tokens",
    ):
        run_stages(run_file, ["pack"], stale)


def test_new_text_is_packed_and_the_rest_kept(make_tokens: Callable[..., RunConfig]) -> None:
    before = pack_all(config := make_tokens(SHARDS))
    folder = data_folder(config).packing(8)
    kept = (folder / "web" / "train_0.rows").stat().st_ino
    partial = folder / "web" / ".train_1.rows.7-0123.partial"
    partial.touch()
    after = pack_all(make_tokens({"train_0": [9, 3], "train_2": [4]}))
    assert after["fingerprint"] != before["fingerprint"]
    assert after["sources"]["web"]["shards"] == [["train_0", 2], ["train_2", 1]]
    assert sorted(path.name for path in (folder / "web").iterdir()) == [
        "train_0.rows",
        "train_2.rows",
    ]
    assert (folder / "web" / "train_0.rows").stat().st_ino == kept


def test_a_broken_shard_is_named_and_the_others_are_not_packed_again(
    make_tokens: Callable[..., RunConfig],
) -> None:
    config = make_tokens(SHARDS)
    shard = config.paths.data_dir / "tokens" / "web" / "train_0.idx"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(
        TasksFailed,
        match=r"train_0\.idx: cannot be read.*Delete .*train_0\.idx and .*then run `pipeline tokenize`",
    ):
        pack_all(config)
    folder = data_folder(config).packing(8)
    assert [path.name for path in (folder / "web").iterdir()] == ["train_1.rows"]
    assert not (folder / "manifest.json").exists()
    done = (folder / "web" / "train_1.rows").stat().st_ino
    shard.write_bytes(whole)
    assert pack_all(config)["sources"]["web"]["rows"] == 6
    assert (folder / "web" / "train_1.rows").stat().st_ino == done


KILLED = """
import sys
from pathlib import Path
from pipeline.config.run_file import load
from pipeline.sampling.pack import pack

pack(load(Path(sys.argv[1]), ["executor.workers=1"]))
"""


@pytest.mark.ranks
def test_it_goes_on_after_a_kill(make_tokens: Callable[..., RunConfig], run_file: Path) -> None:
    lengths = np.random.default_rng(3).geometric(0.02, (4, 20_000)).tolist()
    config = make_tokens({f"train_{i}": of_shard for i, of_shard in enumerate(lengths)})
    folder = data_folder(config).packing(8)
    with subprocess.Popen([sys.executable, "-c", KILLED, run_file]) as process:
        while process.poll() is None and not list(task_records(folder).glob("*.json")):
            time.sleep(0.001)
        process.kill()
    finished = {
        path: path.stat().st_ino for path in folder.glob("web/*.rows") if has_record(path, folder)
    }
    assert finished
    manifest = pack_all(config)
    assert {path: path.stat().st_ino for path in finished} == finished
    made = digests(folder)
    assert not list(folder.glob("web/.*"))
    shutil.rmtree(folder)
    assert (pack_all(config), digests(folder)) == (manifest, made)


def has_record(path: Path, folder: Path) -> bool:
    return (task_records(folder) / f"web~{path.stem}.json").exists()


def test_linked_pairs_are_packed_alike_and_copied_again_when_broken(
    make_tokens: Callable[..., RunConfig],
) -> None:
    sources = pack_all(config := make_tokens(SHARDS))["sources"]
    tokens = config.paths.data_dir / "tokens"
    files = read_json(tokens / "manifest.json")["files"]
    elsewhere = config.paths.data_dir.parent / "elsewhere"
    (tokens / "web").rename(elsewhere)
    (tokens / "web").mkdir()
    for name, record in files.items():
        original = elsewhere / Path(name).name
        (tokens / name).symlink_to(original)
        files[name] = {
            "bytes": record["bytes"],
            "identity": "name, size, time: 1",
            "link_to": str(original),
        }
    (tokens / "manifest.json").write_text(json.dumps({"files": files}))
    assert pack_all(config)["sources"] == sources
    (elsewhere / "train_0.bin").write_bytes(b"")
    shutil.rmtree(data_folder(config).packing(8))
    with pytest.raises(
        TasksFailed,
        match=r"train_0\.bin: holds 0 tokens.* Copy .*elsewhere/train_0\.bin and .* again\.",
    ):
        pack_all(config)


def test_without_tokens_or_a_place_to_write_it_says_what_to_do(
    make_tokens: Callable[..., RunConfig],
) -> None:
    config = make_tokens(SHARDS)
    (config.paths.data_dir / "packing").symlink_to(
        "a folder that is gone"
    )  # where not even root can write
    with pytest.raises(
        DataError, match=r"best-fit-8: the packing .* once where paths\.data_dir is writable"
    ):
        pack_all(config)
    (config.paths.data_dir / "tokens" / "manifest.json").unlink()
    with pytest.raises(DataError, match="holds no finished tokens"):
        pack_all(config)


@pytest.mark.ranks
def test_what_tokenize_made_is_packed_whole(make_run: Callable[..., Path]) -> None:
    config = load(make_run(), ["executor.workers=1"])
    packing = pack_all(config)
    tokens = read_json(config.paths.data_dir / "tokens" / "manifest.json")["counts"]["sources"]
    assert packing["sources"].keys() == tokens.keys() == {"prose", "sums"}
    for source, counts in packing["sources"].items():
        train = tokens[source]["train"]
        assert counts["documents"] == train["documents"]
        assert counts["positions"] == train["tokens"] - train["documents"] > 0
