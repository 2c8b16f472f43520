"""`pipeline verify-resume` as a user runs it, and that it would see a difference."""

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from program_here import pipeline_here
from training_data import take_batches_at_once

from pipeline.checkpoint.stored_weights import RankShard, StoredWeights
from pipeline.cli import verify_resume as verify
from pipeline.cluster.warm.forkable_ranks import DEEPSPEED, LAUNCHER_VARIABLE
from pipeline.config.run_file import load
from pipeline.engine.shards import Slot
from pipeline.errors import RequirementError, UserError
from pipeline.store.events import write_event
from pipeline.store.metrics import read_metrics

MakeRun = Callable[..., Path]
STEPS = 100
"""So many that a run is killed long before its end."""


@pytest.mark.ranks
def test_it_kills_goes_on_and_compares_and_would_see_a_difference(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_file = take_batches_at_once(make_run())
    folder = run_file.parent / "proof"
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "verify-resume",
        str(run_file),
        "--folder",
        folder.name,
        f"--steps={STEPS}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "2 ranks, killed, 2 ranks" in output
    assert "2 ranks, killed, 1 ranks" in output
    assert output.count("passed") == 2
    monkeypatch.chdir(folder.parent)
    assert pipeline_here(*command[3:]).returncode == 2, "the folder is there already"
    # Every process of the killed run was ended, wherever it was forked.
    assert len(read_metrics(folder / "killed" / "run")) < STEPS
    assert (
        verify.run_difference(
            folder / "undisturbed" / "run", folder / "resumed-on-2-ranks" / "run"
        ).largest
        == 0
    )

    # On one rank the same numbers are added up in another order: as small as a difference can be.
    config = load(run_file)
    found = verify.run_difference(
        folder / "undisturbed" / "run", folder / "resumed-on-1-ranks" / "run"
    )
    assert 0 < min(found.loss, found.weight, found.moment) <= found.largest < 1e-3

    def pretend(*given: Any) -> None:
        given[-1].mkdir(parents=True, exist_ok=True)

    # Nothing is trained from here on, so nothing need be imported for it.
    monkeypatch.setenv(LAUNCHER_VARIABLE, DEEPSPEED)
    monkeypatch.setattr(verify, "_train", pretend)
    monkeypatch.setattr(verify, "_train_and_kill", pretend)
    monkeypatch.setattr(verify, "check_resumed_halfway", lambda *_: None)
    monkeypatch.setattr(verify, "_allowed", lambda *_: 0.0)
    monkeypatch.setattr(verify, "run_difference", lambda *_: found)
    with pytest.raises(RequirementError, match="a resumed run differs from the undisturbed one"):
        verify.compare_resumed_runs(config, 40, 1, folder / "new")
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("steps", [[], [20], [10, 20]])
def test_a_copy_that_did_not_train_the_second_half_proves_nothing(
    tmp_path: Path, steps: Sequence[int]
) -> None:
    for step in steps:
        write_event(tmp_path, "resume", step=step)
    with pytest.raises(UserError, match="was to resume once, after step 10"):
        verify.check_resumed_halfway(tmp_path, 20)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_difference_that_is_no_number_counts_as_the_largest(place: int) -> None:
    numbers = [0.0, 1e-3, 2.0]
    assert verify.Difference(*numbers).largest == 2.0
    numbers[place] = math.nan
    difference = verify.Difference(*numbers)
    assert math.isnan(difference.largest)
    assert not difference.largest <= math.inf, "no limit allows it"
    assert verify.largest_of([]) == 0.0


def stored(weights: list[float], moments: list[float]) -> StoredWeights:
    """Return a checkpoint of one rank with two parameters, `a` and `b`, of one element each."""
    group = {"a": torch.Size([1]), "b": torch.Size([1])}
    slots = [[Slot("a", 0, 1, 0, 0), Slot("b", 0, 1, 0, 1)]]
    shard = RankShard([torch.tensor(weights)], {0: {"exp_avg": torch.tensor(moments)}}, {})
    return StoredWeights([group], slots, lambda _: shard, {}, {})


def test_no_number_in_a_later_tensor_is_found() -> None:
    healthy = stored([1.0, 2.0], [3.0, 4.0])
    other = stored([1.5, 2.0], [3.0, 4.25])
    assert verify.tensor_differences(healthy, other) == (0.5, 0.25)
    weight, moment = verify.tensor_differences(healthy, stored([1.5, math.nan], [3.5, 4.0]))
    assert math.isnan(weight)
    assert moment == 0.5
    weight, moment = verify.tensor_differences(healthy, stored([1.0, 2.0], [3.5, math.nan]))
    assert weight == 0.0
    assert math.isnan(moment)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_no_noise_of_the_machine_allows_a_difference_that_is_not_finite(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], loss: float
) -> None:
    difference = verify.Difference(loss, 0.0, 0.0)
    config = load(run_file)
    trainings = verify.Trainings(config, 4, 1, tmp_path, verify.TrainingStarter(config))
    assert verify._allowed(trainings, difference) == 0.0
    printed = " ".join(capsys.readouterr().err.split())
    assert "counts as the largest difference" in printed
    assert list(tmp_path.glob("undisturbed-again")) == [], "nothing more is trained"


@pytest.mark.parametrize("steps", [2, 5])
def test_steps_that_cannot_be_halved_are_refused(run_file: Path, steps: int) -> None:
    with pytest.raises(verify.ConfigError, match="must be even and at least 4"):
        verify.compare_resumed_runs(load(run_file), steps, None, run_file.parent / "proof")


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("kind", "ranks", "why"),
    [("local", 2, "the run has 2 ranks"), ("slurm", 4, "the allocation sets the number of ranks")],
)
def test_other_ranks_that_would_prove_nothing_are_refused(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, kind: str, ranks: int, why: str
) -> None:
    run_file = make_run()
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(verify.ConfigError, match=why):
        verify.compare_resumed_runs(
            load(run_file, [f"launch.kind={kind}"]), 4, ranks, run_file.parent / "proof"
        )
