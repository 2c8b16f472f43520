"""Trainings that are started alone where they cannot be forked; forks: `tests/cli/test_verify_resume.py`."""

import subprocess
from pathlib import Path

import pytest

from pipeline.cluster.warm import warm_process
from pipeline.cluster.warm.forkable_ranks import DEEPSPEED, LAUNCHER_VARIABLE
from pipeline.cluster.warm.training_starter import TrainingStarter, process_number
from pipeline.config.run_file import load


@pytest.mark.ranks
@pytest.mark.parametrize("why", ["asked for", "imports fail"])
def test_a_training_is_started_alone_where_it_cannot_be_forked(
    run_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    why: str,
) -> None:
    if why == "asked for":
        monkeypatch.setenv(LAUNCHER_VARIABLE, DEEPSPEED)
    else:
        monkeypatch.delenv(LAUNCHER_VARIABLE, raising=False)
        monkeypatch.setattr(warm_process, "PRELOADED", ("no_such_module",))
    log = tmp_path / "train.log"
    with TrainingStarter(load(run_file)) as starter:
        for count in (1, 2):
            training = starter.start(tmp_path / "nowhere.yaml", 2, log)
            assert isinstance(training, subprocess.Popen)
            assert process_number(training) == training.pid
            assert training.wait() == 2
            assert log.read_text().count("nowhere.yaml") == count
    warned = capsys.readouterr().err.count("each imports for itself")
    assert warned == (why == "imports fail")
