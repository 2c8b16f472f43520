"""Saving beside training: what is written is the state at the save, and a save that fails costs no
other."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import memory_disk
from ranks import in_ranks, run_ranks
from training_data import take_batches_at_once

from pipeline.checkpoint.files import load_file
from pipeline.checkpoint.folders import read_checkpoint_manifest, remove_checkpoint
from pipeline.checkpoint.saver import _check_sizes
from pipeline.checkpoint.snapshot import HostMemory
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.store.events import read_events
from pipeline.store.metrics import read_metrics

MakeRun = Callable[..., Path]
CONSTANT = "schedule.kind=constant"
"""A longer run has the same learning rates."""


@pytest.fixture
def make_run(make_run: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that writes a run file, as the fixture of all tests does, of whole batches."""
    return lambda **named: take_batches_at_once(make_run(**named))


def run_dir_of(run_file: Path) -> Path:
    return load(run_file).paths.run_dir


def losses(run_dir: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(run_dir)]


def test_copies_keep_their_values_views_and_memory() -> None:
    memory, whole = HostMemory(), torch.arange(6.0)
    state = {
        "whole": whole,
        "views": [whole[2:4], whole.view(2, 3)],
        "step": 3,
        "empty": torch.empty(0),
    }
    copied = memory.copy(state)
    whole.zero_()
    assert copied["views"][0].tolist() == [2, 3]
    assert copied["views"][1].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (
        copied["whole"].untyped_storage().data_ptr()
        == copied["views"][0].untyped_storage().data_ptr()
    )
    assert (copied["step"], copied["empty"].numel(), memory.held_bytes) == (3, 0, 24)
    before = copied["whole"].data_ptr()
    memory.begin()
    assert memory.copy(state)["whole"].data_ptr() == before
    assert copied["whole"].tolist() == [0] * 6


@pytest.mark.ranks
@pytest.mark.parametrize("zero", ["zero0", "zero1", "zero3"])
def test_what_is_written_beside_training_is_what_would_be_written_at_once(
    make_run: MakeRun, zero: str
) -> None:
    """Step 10 of 20: the thread may write while steps 11 and 12 change the weights."""
    found = []
    for name, setting in (("at-once", "false"), ("beside", "true")):
        run_file = make_run(name=name, zero=zero)
        run_ranks(run_file, 2, [f"checkpoint.asynchronous={setting}"])
        folder = run_dir_of(run_file) / "checkpoints" / "step_00000010"
        names = [name for name in read_checkpoint_manifest(folder)["files"] if name.endswith(".pt")]
        found.append({name: flat(load_file(folder / name)) for name in names})
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) >= 3
    for name, values in found[0].items():
        assert values == found[1][name], name


def flat(value: object) -> list[object]:
    """Return all that a nest of containers holds, in order; of plain objects their attributes."""
    if isinstance(value, torch.Tensor):
        return [value.dtype, value.shape, value.tolist()]
    if isinstance(value, dict):
        return [part for key, item in value.items() for part in (key, *flat(item))]
    if isinstance(value, (list, tuple)):
        return [part for item in value for part in flat(item)]
    return (
        flat(vars(value))
        if type(value).__module__.startswith("deepspeed") and hasattr(value, "__dict__")
        else [value]
    )


def slow_work(config: RunConfig) -> dict[str, Any]:
    """Train with writes that end only when training waits for them, on one rank only."""
    from pipeline.checkpoint import saver
    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    write, publish, is_waited_for = saver.write_files, saver.Saver.publish, threading.Event()

    def slowly(*arguments: Any) -> Any:
        assert os.environ["RANK"] == "0" or is_waited_for.wait(600)
        is_waited_for.clear()
        return write(*arguments)

    def publish_at_last(self: saver.Saver) -> None:
        is_waited_for.set()
        publish(self)

    saver.write_files, saver.Saver.publish = slowly, publish_at_last
    return run_job(config, StopSignal())


@pytest.mark.ranks
@pytest.mark.fault("disk")
def test_a_save_slower_than_its_interval_is_waited_for_and_said(make_run: MakeRun) -> None:
    run_file, often = make_run(), ["checkpoint.save_every_steps=2", "checkpoint.keep_last=20"]
    assert in_ranks(run_file, 2, slow_work, often)["status"] == "done"
    run_dir = run_dir_of(run_file)
    assert [event["step"] for event in read_events(run_dir, "save")] == list(range(2, 21, 2))
    slow = read_events(run_dir, "slow save")
    assert [event["step"] for event in slow] == list(range(4, 21, 2))
    assert all(event["seconds"] >= 0 for event in slow)
    assert (
        f"training waited {slow[0]['seconds']:.1f} s for it; save less often (checkpoint"
        in slow[0]["message"]
    )
    undisturbed = make_run(name="undisturbed")
    run_ranks(undisturbed, 2)
    assert losses(run_dir) == losses(run_dir_of(undisturbed))


def unsynced_work(config: RunConfig) -> dict[str, Any]:
    """Train where the steps before a checkpoint cannot be brought to the disk."""
    from pipeline.store.metrics import MetricsFile
    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    def refuse(self: MetricsFile) -> None:
        raise OSError(5, "Input/output error")

    MetricsFile.sync = refuse
    return run_job(config, StopSignal())


@pytest.mark.ranks
@pytest.mark.fault("disk")
def test_there_is_no_checkpoint_whose_steps_may_be_lost(make_run: MakeRun) -> None:
    run_file = make_run()
    outcome = in_ranks(run_file, 2, unsynced_work)
    assert outcome["status"] == "refused"
    assert "Input/output error" in outcome["message"]
    assert [event["step"] for event in read_events(run_dir_of(run_file), "save failed")] == [10, 20]
    assert not list((run_dir_of(run_file) / "checkpoints").glob("step_*"))


def unremovable_work(config: RunConfig) -> dict[str, Any]:
    """Train where an old checkpoint cannot be removed, as while somebody reads it on a network file
    system."""
    from pipeline.checkpoint import saver
    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    def refuse(path: Path) -> None:
        raise OSError(39, "Directory not empty", str(path))

    saver.remove_checkpoint = refuse
    return run_job(config, StopSignal())


@pytest.mark.ranks
@pytest.mark.fault("disk")
def test_an_old_checkpoint_that_cannot_be_removed_costs_no_save(make_run: MakeRun) -> None:
    run_file = make_run()
    settings = ["checkpoint.save_every_steps=5", "checkpoint.keep_last=1"]
    assert in_ranks(run_file, 2, unremovable_work, settings)["status"] == "done"
    run_dir = run_dir_of(run_file)
    assert [event["step"] for event in read_events(run_dir, "save")] == [5, 10, 15, 20]
    failed = read_events(run_dir, "removal failed")
    assert [event["checkpoint"] for event in failed] == [
        f"step_{step:08d}" for step in (10, 15, 20)
    ]
    assert (
        "step_00000010 is saved, an older checkpoint could not be removed: [Errno 39]"
        in failed[0]["message"]
    )


@pytest.mark.ranks
@pytest.mark.fault("disk")
def test_a_folder_that_cannot_be_made_costs_the_save_alone(make_run: MakeRun) -> None:
    run_file = make_run()
    run_ranks(run_file, 2, [CONSTANT])
    run_dir = run_dir_of(run_file)
    (run_dir / "checkpoints" / ".partial").write_text("in the way")
    longer = [CONSTANT, "train.train_tokens=7680"]  # to step 30
    blocked = in_ranks(run_file, 2, blocked_work, longer)
    assert (
        "the checkpoint of step 30 could not be written: [Errno 20] Not a directory"
        in blocked["said"]
    )
    assert (
        "the newest checkpoint is step_00000020. Repair the cause and run the same command again."
        in blocked["said"]
    )
    assert len(losses(run_dir)) == 30
    assert run_ranks(run_file, 2, longer)["status"] == "done"
    whole = make_run(name="whole")
    run_ranks(whole, 2, longer)
    assert losses(run_dir) == losses(run_dir_of(whole))


def blocked_work(config: RunConfig) -> dict[str, Any]:
    """Train while a file lies where the folder of unfinished checkpoints has to be."""
    from pipeline.checkpoint import saver
    from pipeline.errors import UserError
    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    saver.Saver._clean = lambda self: "token"
    try:
        return run_job(config, StopSignal())
    except UserError as error:
        return {"said": str(error)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 8 MB of memory as a disk."""
    with memory_disk(tmp_path / "small", 8) as folder:
        yield folder


def train_trusting_the_disk(config: RunConfig) -> dict[str, Any]:
    """Train as if the disk had had room for all checkpoints when the run began."""
    from pipeline.training import job
    from pipeline.training.stop import StopSignal

    job.disk_space_needed = lambda *_: ("", [])
    return job.run_job(config, StopSignal())


@pytest.mark.ranks
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.fault("disk")
def test_a_full_disk_costs_the_save_alone(make_run: MakeRun, small_disk: Path) -> None:
    run_file, run_dir = make_run(), small_disk / "run"
    place = [CONSTANT, f"paths.run_dir={run_dir}"]
    assert run_ranks(run_file, 2, place)["status"] == "done"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(
        bytes(free - 150_000)
    )  # for metrics; a checkpoint takes more
    longer = [*place, "train.train_tokens=7680"]
    before = run_ranks(run_file, 2, [*longer, "checkpoint.keep_last=100"])
    assert "set checkpoint.keep_last lower" in before["message"], "seen before training"
    outcome = in_ranks(run_file, 2, train_trusting_the_disk, longer)
    assert outcome["status"] == "refused"
    assert (
        "the checkpoint of step 30 could not be written: [Errno 28] No space left on device"
        in outcome["message"]
    )
    assert "the newest checkpoint is step_00000020" in outcome["message"]
    assert [event["step"] for event in read_events(run_dir, "save failed")] == [30]
    (small_disk / "filler").unlink()
    assert run_ranks(run_file, 2, longer)["status"] == "done"
    whole = make_run(name="whole")
    run_ranks(whole, 2, [CONSTANT, "train.train_tokens=7680"])
    assert losses(run_dir) == losses(run_dir_of(whole))
    assert not (run_dir / "checkpoints" / ".partial").exists()


def test_files_that_have_vanished_or_are_shorter_make_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"12345")
    _check_sizes(tmp_path, {"shard": {"bytes": 5}})
    with pytest.raises(OSError, match="has 5 bytes of 6"):
        _check_sizes(tmp_path, {"shard": {"bytes": 6}})
    with pytest.raises(FileNotFoundError):
        _check_sizes(tmp_path, {"gone": {"bytes": 6}})


def test_a_removed_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "step_00000001").mkdir()
    (tmp_path / "step_00000001" / "shard").write_bytes(b"12345")
    remove_checkpoint(tmp_path / "step_00000001")
    assert list(tmp_path.iterdir()) == []
