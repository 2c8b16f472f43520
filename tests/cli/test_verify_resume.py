"""`pipeline verify-resume` as a user runs it, and that it would see a difference."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import verify_resume as verify
from pipeline.config.run_file import load
from pipeline.errors import RequirementError

MakeRun = Callable[..., Path]


@pytest.mark.ranks
def test_it_kills_goes_on_and_compares_and_would_see_a_difference(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_file = make_run()
    folder = run_file.parent / "proof"
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "verify-resume",
        str(run_file),
        "--folder",
        str(folder),
        "--steps=400",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "2 ranks, killed, 2 ranks" in output
    assert "2 ranks, killed, 1 ranks" in output
    assert output.count("passed") == 2
    assert subprocess.run(command, capture_output=True, timeout=600).returncode == 2, (
        "the folder is there already"
    )
    assert (
        verify.run_difference(
            folder / "undisturbed" / "run", folder / "resumed-on-2-ranks" / "run"
        ).largest
        == 0
    )

    config = load(run_file, ["train.seed=2"])
    other = verify._train(config, 400, 1, run_file.parent / "other")
    found = verify.run_difference(folder / "undisturbed" / "run", other)
    assert min(found.loss, found.weight, found.moment) > 0

    def pretend(*given: Any) -> None:
        given[-1].mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(verify, "_train", pretend)
    monkeypatch.setattr(verify, "_train_and_kill", pretend)
    monkeypatch.setattr(verify, "_allowed", lambda *_: 0.0)
    monkeypatch.setattr(verify, "run_difference", lambda *_: found)
    with pytest.raises(RequirementError, match="a resumed run differs from the undisturbed one"):
        verify.compare_resumed_runs(config, 40, 1, folder / "new")
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("steps", [2, 5])
def test_steps_that_cannot_be_halved_are_refused(run_file: Path, steps: int) -> None:
    with pytest.raises(verify.ConfigError, match="must be even and at least 4"):
        verify.compare_resumed_runs(load(run_file), steps, None, run_file.parent / "proof")


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("kind", "ranks", "why"),
    [("local", 2, "the run has 2 ranks"), ("slurm", 4, "the allocation says how many")],
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
