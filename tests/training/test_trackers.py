"""Trackers on real ranks: the figures of metrics.jsonl, once each, and a run that goes on without
them."""

import json
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ranks import run_ranks

from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.store.events import all_events
from pipeline.store.metrics import read_metrics
from pipeline.training import trackers

MakeRun = Callable[..., Path]


def test_figures_are_flat_and_numbers() -> None:
    record = {
        "step": 3,
        "loss": 1.5,
        "mfu": None,
        "data_checksum": "0f",
        "validation_loss_by_source": {"a": 2.0},
    }
    assert trackers.flatten_figures(record) == {"loss": 1.5, "validation_loss_by_source/a": 2.0}


@pytest.mark.ranks
def test_tensorboard_holds_every_step_of_metrics_once_also_after_steps_were_lost(
    make_run: MakeRun,
) -> None:
    """Two ranks; everything after step 10 of 20 is lost and trained again with another length of
    the run, so that the losses of its steps differ: what was logged of the lost ones must be
    gone."""
    pytest.importorskip("tensorboard", reason="needs the extra `trackers`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_file = make_run()
    run_ranks(run_file, 2, ["logging.trackers=[tensorboard]"])
    run_dir = load(run_file).paths.run_dir
    lost = read_metrics(run_dir)
    shutil.rmtree(run_dir / "checkpoints" / "step_00000020")
    run_ranks(run_file, 2, ["logging.trackers=[tensorboard]", "train.train_tokens=6400"])
    records = read_metrics(run_dir)
    assert [record["step"] for record in records] == list(range(1, 26))
    assert records[19]["loss"] != lost[19]["loss"]

    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    names = {name for record in records for name in trackers.flatten_figures(record)}
    assert set(events.Tags()["scalars"]) == names
    assert {"loss", "grad_norm", "learning_rate", "tokens_per_second", "tflops"} < names
    assert {"peak_memory_bytes", "validation_bits_per_byte_by_source/prose"} < names
    for name in names:
        expected = [
            (r["step"], pytest.approx(f, rel=1e-6))
            for r in records
            if (f := trackers.flatten_figures(r).get(name))
        ]
        found = [(event.step, event.value) for event in events.Scalars(name) if event.value]
        assert found == expected, name


@pytest.mark.ranks
def test_wandb_keeps_one_id_and_logs_offline(make_run: MakeRun) -> None:
    pytest.importorskip("wandb", reason="needs the extra `trackers`")
    run_file = make_run()
    overrides = [
        "logging.trackers=[wandb]",
        "train.train_tokens=2560",
        "schedule.warmup_tokens=512",
    ]
    assert run_ranks(run_file, 2, overrides)["status"] == "done"
    folder = load(run_file).paths.run_dir / "wandb"
    run_id = (folder / "run_id").read_text()
    assert run_ranks(run_file, 1, [*overrides, "train.train_tokens=5120"])["status"] == "done"
    assert (folder / "run_id").read_text() == run_id
    parts = sorted(folder.glob("offline-run-*"))
    assert [sorted(found.name for found in part.glob("*.wandb")) for part in parts] == [
        [f"run-{run_id}.wandb"]
    ] * 2
    assert logged_by_wandb(parts[0]) == [
        (r["step"], r["loss"]) for r in read_metrics(folder.parent)[:10]
    ]
    assert logged_by_wandb(parts[1]) == [
        (r["step"], r["loss"]) for r in read_metrics(folder.parent)[10:]
    ]


def logged_by_wandb(folder: Path) -> list[tuple[int, float]]:
    """Return step and loss of every line of history in an offline run."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for content in read_leveldb_log(next(folder.glob("*.wandb")).read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        items = {
            item.key or item.nested_key[0]: json.loads(item.value_json)
            for item in record.history.item
        }
        if "loss" in items:
            found.append((items["_step"], items["loss"]))
    return found


def read_leveldb_log(content: bytes) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format after W&B's 7 bytes of head: blocks of 32
    KiB, in which each part of a record has a checksum (4 bytes), a length (2) and a kind (1: whole,
    2: first, 3: middle, 4: last)."""
    place, record = 7, b""
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


@pytest.mark.ranks
def test_a_tracker_that_fails_is_named_and_training_goes_on(make_run: MakeRun) -> None:
    """Where TensorBoard's folder should be there is a file."""
    pytest.importorskip("tensorboard", reason="needs the extra `trackers`")
    run_file = make_run()
    run_dir = load(run_file).paths.run_dir
    run_dir.mkdir()
    (run_dir / "tensorboard").write_text("in the way")
    assert run_ranks(run_file, 1, ["logging.trackers=[tensorboard]"])["status"] == "done"
    assert len(read_metrics(run_dir)) == 20
    events = all_events(run_dir)
    (failure,) = [event for event in events if event["event"] == "tracker failed"]
    assert failure["tracker"] == "tensorboard" and "FileExistsError" in failure["error"]


@pytest.mark.ranks
def test_a_missing_library_is_refused_with_the_remedy(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder named like it, as W&B itself makes one, is no library."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    for name in ("tensorboard", "wandb"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    trackers.check_trackers(load(make_run()))
    with pytest.raises(
        ConfigError, match=r"wandb and tensorboard not installed; `pip install .*\[trackers\]'`"
    ):
        trackers.check_trackers(load(make_run(), ["logging.trackers=[wandb, tensorboard]"]))
