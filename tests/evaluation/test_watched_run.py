"""When a watched run has begun and ended, and how an evaluation waits for the watch's end."""

import threading
import time
from pathlib import Path

import pytest
from helpers import pretend_checkpoint

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.evaluation import watch, watched_run
from pipeline.evaluation.watch import WatchedTraining
from pipeline.evaluation.watched_run import (
    TRAIN,
    WATCH,
    is_being_trained,
    is_trained,
    newest_step,
    wait_for_watch,
)
from pipeline.store.files import write_json
from pipeline.store.layout import checkpoint_name, run_folder
from pipeline.store.lease import Lease


def end_training(config: RunConfig, step: int) -> None:
    """Leave a checkpoint and the manifest that `train` writes."""
    run = run_folder(config)
    pretend_checkpoint(run.path, step, 32 * step)
    write_json(run.train_manifest, {"counts": {"checkpoint": checkpoint_name(step)}})


def test_only_training_counts_as_training(run_file: Path) -> None:
    run = run_folder(load(run_file))
    assert not is_being_trained(run)
    with Lease(run.path, TRAIN):
        assert is_being_trained(run)
    with Lease(run.path, "pipeline evaluate"):  # a later stage of `pipeline run`
        assert not is_being_trained(run)


def test_a_run_is_trained_when_its_manifest_has_the_last_step(run_file: Path) -> None:
    config = load(run_file)  # 320 tokens, 32 a step: 10 steps
    run = run_folder(config)
    assert (is_trained(config), newest_step(run)) == (False, 0)
    pretend_checkpoint(run.path, 4, 128)
    assert (is_trained(config), newest_step(run)) == (False, 4)
    end_training(config, 10)
    assert (is_trained(config), newest_step(run)) == (True, 10)

    # The run file asks for more: the training that lengthens the run may still be queued.
    assert not is_trained(load(run_file, ["train.train_tokens=640"]))
    # And here it has begun.
    pretend_checkpoint(run.path, 12, 384)
    assert not is_trained(config)


def test_a_run_that_has_not_begun_is_waited_for_and_said_now_and_then(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", -1)  # a moment later, patience is over
    config = load(run_file)
    training = WatchedTraining(config)
    assert not training.has_begun()
    assert not training.has_begun()
    said = capsys.readouterr().err
    assert said.count(f"nobody trains {config.paths.run_dir} yet; waiting for it") == 1
    monkeypatch.setattr(watch, "REMINDER_SECONDS", -1)
    assert not training.has_ended()
    assert capsys.readouterr().err.count("nobody trains") == 1

    # It begins; when its job is gone before the last step, it ends after the patience.
    with Lease(config.paths.run_dir, TRAIN):
        assert training.has_begun()
        assert not training.has_ended()
    pretend_checkpoint(config.paths.run_dir, 4, 128)
    assert training.has_ended()
    assert "it stands at step 4 of 10. Start a watch again" in training.end()
    assert not capsys.readouterr().err


def test_the_end_of_training_is_the_end_although_a_later_stage_holds_the_run(
    run_file: Path,
) -> None:
    config = load(run_file)
    training = WatchedTraining(config)
    end_training(config, 10)
    with Lease(config.paths.run_dir, TRAIN):
        assert not training.has_ended()
    with Lease(config.paths.run_dir, "pipeline evaluate"):
        assert training.has_ended()
    assert training.end() == "the run has ended"


def test_an_evaluation_waits_for_a_watch_that_is_about_to_end(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watched_run, "LOOK_SECONDS", 0.01)
    config = load(run_file)
    run = run_folder(config)
    held = threading.Event()
    ended: list[float] = []

    def hold() -> None:
        with Lease(run.evaluation, WATCH):
            held.set()
            time.sleep(0.3)
            ended.append(time.monotonic())

    # A watch that goes on is not waited for.
    with Lease(run.evaluation, WATCH):
        wait_for_watch(config)
    assert "waiting" not in capsys.readouterr().err

    # Nor is another evaluation, even of a trained run.
    end_training(config, 10)
    with Lease(run.evaluation, "pipeline evaluate"):
        wait_for_watch(config)
    assert "waiting" not in capsys.readouterr().err

    # A watch of a trained run is about to end.
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    wait_for_watch(config)
    assert time.monotonic() >= ended[0]
    thread.join()
    assert f"waiting for `{WATCH}`, which scores the last checkpoint" in capsys.readouterr().err

    # The wait is bounded.
    monkeypatch.setattr(watched_run, "MOST_WAIT_SECONDS", 0.1)
    with Lease(run.evaluation, WATCH):
        wait_for_watch(config)
