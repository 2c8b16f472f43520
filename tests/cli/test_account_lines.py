"""What `status` prints of a run's time."""

import json
from pathlib import Path

import pytest

from pipeline.cli.account_lines import print_account
from pipeline.store.events import LAUNCH, RANKS_ENDED


def test_a_run_that_has_not_started_has_no_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_account(tmp_path)
    assert capsys.readouterr().out == ""


def test_the_run_and_its_larger_parts_have_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A start that has failed: 90 s before it, 9 s in it, and half a second, which is too little
    for a line of its own, until the next one."""
    events = [
        {"unix_time": 90.0, "event": LAUNCH, "ranks": 2, "command_began": 0.0},
        {"unix_time": 99.0, "event": RANKS_ENDED},
        {"unix_time": 99.5, "event": LAUNCH, "ranks": 2, "command_began": 0.0},
        {"unix_time": 99.5, "event": RANKS_ENDED},
    ]
    (tmp_path / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    print_account(tmp_path)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "",
        "train: 1 min 39 s of wall time, 0.0% made progress (ETTR), 1 job, 2 starts, 0.06 "
        "device-hours",
        "start-up 9.0% 9.0 s",
        "before training 90.5% 1 min 30 s",
        "others 0.5% 0.5 s restarts",
    ]
