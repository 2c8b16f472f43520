"""Communication, measured by steps with and without reduction after the last one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ranks import run_ranks

from pipeline.config.run_file import load
from pipeline.store.events import COMMUNICATION, CommunicationEvent, read_events
from pipeline.store.layout import RunFolder
from pipeline.store.metrics import read_metrics

MakeRun = Callable[..., Path]
SHORT = ("train.train_tokens=1024", "optimizer.kind=muon")
PAIRS = 3


def measured(run_file: Path) -> list[CommunicationEvent]:
    return read_events(load(run_file).paths.run_dir, COMMUNICATION)


@pytest.mark.ranks
def test_measuring_changes_no_checkpoint_and_no_record(make_run: MakeRun) -> None:
    """The same run with and without further steps: the same losses, the same files."""
    plain = make_run("plain", zero="zero2")
    run_ranks(plain, 2, SHORT)
    file = make_run("measured", zero="zero2")
    outcome = run_ranks(file, 2, [*SHORT, f"train.communication_steps={PAIRS}"])
    assert outcome["status"] == "done"

    # What was measured.
    assert measured(plain) == []
    (event,) = measured(file)
    assert (event["ranks"], event["nodes"], event["backend"]) == (2, 1, "gloo")
    assert len(event["seconds_with"]) == len(event["seconds_without"]) == PAIRS
    assert event["bytes_per_second"] > 0

    # What was not changed.
    runs = [RunFolder(load(each).paths.run_dir) for each in (plain, file)]
    losses = [[record["loss"] for record in read_metrics(run.path)] for run in runs]
    assert losses[0] == losses[1]
    files = [
        {
            path.name: path.read_bytes()
            for path in sorted(run.checkpoint(4).rglob("*optim_states.pt"))
        }
        for run in runs
    ]
    assert files[0]
    assert files[0] == files[1]


@pytest.mark.ranks
def test_at_stage_3_no_step_can_do_without(make_run: MakeRun) -> None:
    file = make_run(zero="zero3")
    run_ranks(file, 2, [*SHORT, f"train.communication_steps={PAIRS}"])
    (event,) = measured(file)
    assert len(event["seconds_with"]) == PAIRS
    assert event["seconds_without"] == []
