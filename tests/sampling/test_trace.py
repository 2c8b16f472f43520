"""Tracing, both ways, against what is found by going through everything."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from begun_run import begin_run
from helpers import iterate_texts, run_stages
from ranks import run_ranks

from pipeline.config.run_file import dump, load
from pipeline.corpus import groups
from pipeline.corpus.documents import read_documents, shard_paths
from pipeline.errors import DataError, UserError
from pipeline.sampling.pack import pack
from pipeline.sampling.trace import trace_document, trace_step
from pipeline.sampling.traced_run import open_run, read_run
from pipeline.store.files import read_json, write_json
from pipeline.training import resume

pytestmark = pytest.mark.ranks

MakeRun = Callable[..., Path]
DATA = {
    "windows": [],
    "block": ["data.shuffle=block"],
    "best-fit": ["data.packing=best-fit"],
    "stages": ["data.stages=[{from_progress: 0.5, mixture: {prose: 0, sums: 1}}]"],
    "ramp": [
        "batch.ramp=[{until_tokens: 1024, global_batch_tokens: 128}]",
        "batch.micro_batch_sequences=1",
    ],
    "small sample": ["data.small_sample={train_sequences: 3, label_noise: 0.5}"],
    "many epochs": ["data.mixture={prose: 0, sums: 1}", "train.train_tokens=51200"],
}


def add_text(run_file: Path, change: str) -> None:
    """Add text to the data of a run file: another source, or another file of one, and pack what is
    packed."""
    rows = [f'{{"text": "more text than there was, {i} times {i}"}}\n' for i in range(50)]
    (run_file.parent / "more.jsonl").write_text("".join(rows))
    text = run_file.read_text().replace("run_dir: run", "run_dir: other")
    if change == "a source":
        text = text.replace("sources:\n", "sources:\n  more: {kind: jsonl, paths: [more.jsonl]}\n")
        text = text.replace("prose: 2,", "prose: 2, more: 1,")
    else:
        text = text.replace("paths: [prose.jsonl]", "paths: [prose.jsonl, more.jsonl]")
    other = run_file.with_name("other.yaml")
    other.write_text(text)
    run_stages(other, ["prepare", "train-tokenizer", "tokenize"], [])
    pack(load(other, ["data.packing=best-fit"]))


@pytest.mark.parametrize("change", ["a source", "a file"])
@pytest.mark.parametrize("packing", ["concatenate", "best-fit"])
def test_a_run_is_traced_as_before_after_text_was_added(
    make_run: MakeRun, change: str, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "GROUP_BYTES", 1)  # a file is a shard, as large ones are
    run_file = make_run()
    run = begin_run(run_file, [f"data.packing={packing}"])
    resume.record_run(run.config)
    identity = trace_step(run, 5)["rows"][0]["documents"][0]["id"]
    before = [trace_step(run, 5), trace_document(run, identity)]
    add_text(run_file, change)
    run = read_run(open_run(run.config.paths.run_dir, []))
    assert [trace_step(run, 5), trace_document(run, identity)] == before
    tokens = run.config.paths.data_dir / "tokens"
    added = {path.relative_to(tokens).as_posix() for path in tokens.glob("*/train_*.bin")} - {
        path.relative_to(tokens).as_posix()
        for source in run.data.sources
        for path in source.stream.paths
    }
    assert added
    if change == "a file":  # what came later was not seen
        shard = added.pop().removesuffix(".bin")
        (found,) = trace_document(run, f"{shard}/0")["documents"]
        assert found["times"] == []


@pytest.mark.parametrize("damage", ["missing", "another", "not listed"])
def test_a_run_whose_tokens_are_gone_is_not_traced_and_they_are_named(
    make_run: MakeRun, damage: str
) -> None:
    run = begin_run(make_run(), [])
    resume.record_run(run.config)
    tokens = run.config.paths.data_dir / "tokens"
    manifest = read_json(tokens / "manifest.json")
    (name,) = (
        name
        for name in manifest["files"]
        if name.startswith("sums/train_") and name.endswith(".bin")
    )
    if damage == "missing":
        (tokens / name).unlink()
    elif damage == "another":
        manifest["files"][name]["checksum"] = "0" * 32
    else:
        del manifest["files"][name]
    write_json(tokens / "manifest.json", manifest)
    with pytest.raises(DataError) as error:
        read_run(run.config)
    assert name in str(error.value)
    assert "prose" not in str(error.value)


@pytest.mark.parametrize("overrides", DATA.values(), ids=DATA.keys())
def test_both_ways_agree_over_a_whole_run(make_run: MakeRun, overrides: list[str]) -> None:
    run = begin_run(make_run(), overrides)
    config = run.config
    seen: dict[str, list[tuple[int, int, int, int]]] = {}
    for step in range(1, config.total_steps + 1):
        for row in trace_step(run, step)["rows"]:
            for part in row["documents"]:
                seen.setdefault(part["id"], []).append(
                    (step, row["row"], part["first"], part["end"])
                )
    assert seen, "nothing was traced"
    documents = config.paths.data_dir / "documents"
    for source in config.sources:
        for identity, _ in [*iterate_texts(documents, source, "train")][:40]:
            (found,) = trace_document(run, identity)["documents"]
            times = [
                (t["step"], t["row"], first, end)
                for t in found["times"]
                for first, end in t["spans"]
            ]
            assert sorted(times) == sorted(seen.get(identity, []))
            assert all(t["done"] == (t["step"] <= 12) for t in found["times"])


def test_a_step_names_the_documents_whose_text_its_rows_hold(make_run: MakeRun) -> None:
    run = begin_run(make_run(), [])
    documents = run.config.paths.data_dir / "documents"
    for row in trace_step(run, 3)["rows"]:
        ids = run.data.read([2 * 8 + row["row"]])
        spans = row["documents"]
        read = sum(span["end"] - span["first"] for span in spans)
        assert read == int((ids.targets != -100).sum()) + 1
        for span in spans:
            (document,) = read_documents(
                documents / row["source"] / f"{span['shard']}.parquet", [span["row"]]
            )
            assert document["id"] == span["id"]
            assert span["origin_file"] == f"{row['source']}.jsonl"
            assert span["excerpt"].removesuffix("<|endoftext|>") in document["text"]


def test_ranks_and_rows_narrow_a_step_down(make_run: MakeRun) -> None:
    """Batches of 8 in micro-batches of 2 on 2 ranks: rank 0 has rows 0 1 4 5, rank 1 rows 2 3 6
    7."""
    run = begin_run(make_run(), [])
    assert [row["row"] for row in trace_step(run, 1, rank=1)["rows"]] == [2, 3, 6, 7]
    (only,) = trace_step(run, 1, row=6)["rows"]
    assert (only["row"], only["rank"]) == (6, 1)
    assert trace_step(run, 1, rank=0, row=6)["rows"] == []
    assert trace_step(run, 1, limit=3)["row_count"] == 8
    for wrong, message in (({"row": 8}, "rows 0 to 7"), ({"rank": 2}, "ranks 0 to 1")):
        with pytest.raises(UserError, match=message):
            trace_step(run, 1, **wrong)
    for step in (0, 21):
        with pytest.raises(UserError, match="the run has steps 1 to 20, of which 12 are done"):
            trace_step(run, step)


def test_what_is_held_out_has_no_weight_or_is_unknown(make_run: MakeRun) -> None:
    run = begin_run(make_run(), ["data.mixture={prose: 1, sums: 0}"])
    documents = run.config.paths.data_dir / "documents"
    held_out = next(iterate_texts(documents, "prose", "validation"))[0]
    (found,) = trace_document(run, held_out)["documents"]
    assert (found["held_out"], found["times"]) == (True, [])
    unseen = next(iterate_texts(documents, "sums", "train"))[0]
    (found,) = trace_document(run, unseen)["documents"]
    assert (found["held_out"], found["times"]) == (False, [])
    with pytest.raises(
        UserError, match=r"no document of the run's sources \(prose, sums\) has this id or url"
    ):
        trace_document(run, "prose/train_none_000/0")


def test_skipped_samples_are_honoured(make_run: MakeRun) -> None:
    run_file = make_run()
    plain = begin_run(run_file, [])
    write_json(
        plain.config.paths.run_dir / "checkpoints" / "step_00000010" / "manifest.json",
        {"state": {"step": 10, "tokens": 2560, "skipped": [[16, 24]]}},
    )
    skipping = read_run(plain.config)
    samples = {
        step: [row["sample"] for row in trace_step(skipping, step)["rows"]] for step in (2, 3)
    }
    assert samples == {2: list(range(8, 16)), 3: list(range(24, 32))}
    lost = {part["id"] for row in trace_step(plain, 3)["rows"] for part in row["documents"]}
    for identity in lost:
        (found,) = trace_document(skipping, identity)["documents"]
        for time in found["times"]:
            rows = trace_step(skipping, time["step"], row=time["row"])["rows"]
            assert identity in {part["id"] for part in rows[0]["documents"]}


def test_a_real_run_is_traced_from_its_folder_and_its_data_are_those_it_logged(
    make_run: MakeRun,
) -> None:
    run_file = make_run()
    run_ranks(run_file, 2)
    config = load(run_file)
    (config.paths.run_dir / "config.yaml").write_text(dump(config))
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "trace",
        str(config.paths.run_dir),
        "--json",
        "--step",
        "7",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    traced = json.loads(ended.stdout)
    assert (traced["done"], traced["ranks"], traced["data"]["same"]) == (True, 2, True)
    assert [row["row"] for row in traced["rows"]] == list(range(8))
    source = next(iter(config.sources))
    (shard,) = (config.paths.data_dir / "tokens" / source).glob("train_*.bin")
    ids = np.fromfile(shard, np.uint16)
    ids[::3] += 1
    ids.tofile(shard)
    assert trace_step(read_run(config), 7)["data"]["same"] is False
    (config.paths.data_dir / "tokens" / "manifest.json").unlink()
    with pytest.raises(DataError, match="If they have been moved, set paths"):
        open_run(config.paths.run_dir, [])


def test_the_terminal_shows_both_ways_and_refuses_what_makes_no_sense(
    make_run: MakeRun, capsys: pytest.CaptureFixture
) -> None:
    from pipeline.cli.trace_view import show_trace

    run_file = make_run()
    run = begin_run(run_file, [])
    nothing = {
        "step": None,
        "document": None,
        "item": None,
        "rank": None,
        "row": None,
        "limit": 20,
        "as_json": False,
    }
    show_trace(run_file, [], **{**nothing, "step": 2, "limit": 2})
    printed = capsys.readouterr()
    assert "step 2 (done, made by 2 ranks): 8 rows" in printed.out
    assert "row 1, rank 0: sample 9," in printed.out
    assert "6 more rows: --limit 0 or --json shows all" in printed.err
    identity = trace_step(run, 2)["rows"][0]["documents"][0]["id"]
    show_trace(run_file, [], **{**nothing, "document": identity})
    assert "step 2, row 0, epoch 0: tokens" in capsys.readouterr().out
    for wrong in (
        {},
        {"step": 1, "document": "x"},
        {"document": "x", "rank": 1},
        {"document": "x", "item": "y/1"},
        {"item": "y/1", "row": 1},
    ):
        with pytest.raises(UserError, match="--step"):
            show_trace(run_file, [], **{**nothing, **wrong})
    with pytest.raises(DataError, match="holds no run"):
        show_trace(run_file.parent, [], **{**nothing, "step": 1})
    assert shard_paths(run.config.paths.data_dir / "documents", "prose", "train")
