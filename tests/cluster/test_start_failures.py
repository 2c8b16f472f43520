"""Which ends of ranks before their first step would come again, and that these are not started
again."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster import supervisor
from pipeline.cluster.start_failures import StartFailure, common_failure
from pipeline.cluster.stop_request import StopRequest
from pipeline.cluster.supervisor import TrainingFailed, TrainingJob
from pipeline.cluster.time_limit import TimeLimit
from pipeline.cluster.warm.forkable_ranks import ForkableRanks
from pipeline.config.run_file import load
from pipeline.store.events import FIRST_STEP, read_events, write_event

ENDED = """\
some line of a library
Traceback (most recent call last):
  File "/x/worker.py", line 9, in main
    run()
  File "/x/model.py", line {line}, in build
    raise {kind}("{message}")
{module}{kind}: {message}
"""


def logs_of(folder: Path, ranks: int) -> list[Path]:
    return [folder / f"rank_{rank:05d}.log" for rank in range(ranks)]


def write_logs(folder: Path, *texts: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(logs_of(folder, len(texts)), texts, strict=True):
        path.write_text(text)


def ended(
    kind: str = "ValueError", line: int = 4, message: str = "64 / 3", module: str = ""
) -> str:
    return ENDED.format(kind=kind, line=line, message=message, module=module)


def test_the_same_place_on_every_rank_is_one_failure(tmp_path: Path) -> None:
    write_logs(tmp_path, ended(message="of rank 0"), ended(message="of rank 1"))
    assert common_failure(logs_of(tmp_path, 2)) == StartFailure("ValueError", "/x/model.py:4")
    assert common_failure(logs_of(tmp_path, 3)) is None, "one rank has written nothing"
    write_logs(tmp_path, ended(), ended(line=5))
    assert common_failure(logs_of(tmp_path, 2)) is None
    write_logs(tmp_path, ended(), "all is well\n")
    assert common_failure(logs_of(tmp_path, 2)) is None
    write_logs(
        tmp_path,
        ended("KeyError")
        + "While that was handled:\n"
        + ended("FieldError", 8, module="hub.errors."),
    )
    assert common_failure(logs_of(tmp_path, 1)) == StartFailure("FieldError", "/x/model.py:8"), (
        "the last one counts"
    )


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("ValueError", True, True),
        ("StrictDataclassClassValidationError", True, True),
        ("AssertionError", True, True),
        ("RuntimeError", False, True),
        ("OSError", False, False),
        ("FileNotFoundError", False, False),
        ("ConnectionResetError", False, False),
        ("TimeoutError", False, False),
        ("MemoryError", False, False),
        ("OutOfMemoryError", False, False),
        ("DistNetworkError", False, False),
        ("DistBackendError", False, False),
        ("AcceleratorError", False, False),
    ],
)
def test_what_would_come_again(kind: str, first: bool, second: bool) -> None:
    failure = StartFailure(kind, "x.py:1")
    assert failure.comes_again(None) is first
    assert failure.comes_again(StartFailure(kind, "x.py:1")) is second
    assert failure.comes_again(StartFailure(kind, "x.py:2")) is first


def starts_until_given_up(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, ends: Iterator[str], steps: bool
) -> int:
    """Have both ranks end every start with the next of the logs; returns how many starts there
    were."""
    config = load(run_file, ["guard.max_restarts=3"])
    run_dir = config.paths.run_dir
    run_dir.mkdir(exist_ok=True)

    def start_once(*_: object) -> tuple[str, int]:
        if steps:
            write_event(run_dir, FIRST_STEP)
        text = next(ends)
        write_logs(run_dir / "logs", text, text)
        return "a rank ended without a result", 2

    monkeypatch.setattr(supervisor, "_start_once", start_once)
    limit, now = TimeLimit(config, time.time()), time.time()
    with pytest.raises(TrainingFailed) as failed:
        job = TrainingJob(
            config, run_dir / "config.yaml", StopRequest(), limit, ForkableRanks(config), now
        )
        supervisor._run_to_an_outcome(job)
    assert failed.value.exit_code == 1
    return 1 + len(read_events(run_dir, "restart"))


@pytest.mark.parametrize(
    ("kinds", "steps", "starts"),
    [
        (["ValueError"] * 4, False, 1),
        (
            ["ValueError"] * 4,
            True,
            4,
        ),  # after a step it may hang on the data, and the next start skips nothing
        (["RuntimeError"] * 4, False, 2),
        (["OSError", "ValueError"], False, 2),
        (["OSError"] * 4, False, 4),
    ],
)
def test_ranks_are_started_again_only_where_that_may_help(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, kinds: list[str], steps: bool, starts: int
) -> None:
    assert starts_until_given_up(run_file, monkeypatch, map(ended, kinds), steps) == starts
