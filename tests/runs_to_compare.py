"""Runs for comparisons: folders with recorded settings, metrics and events, and runs by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conftest import write_run_file

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump, load
from pipeline.reporting.many_runs.compared_run import ComparedRun, StepPoint
from pipeline.store.layout import run_folder

T = 1_000_000.0
"""When each run is launched, in seconds of the epoch."""


def begin_run(folder: Path, *overrides: str, tokenizer: str = "t") -> Path:
    """Write the folder of a run of four steps of 32 tokens on 2 ranks; the last two are validated.

    A step takes 2 s, the start-up 10 s; 1 TFLOP/s a device at 16 tokens/s: 2 x 1e12 / 16 FLOPs a
    token.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = load(write_run_file(folder), overrides)
    run = run_folder(config)
    run.path.mkdir(parents=True)
    run.config.write_text(dump(config))
    run.settings.write_text(json.dumps({"output of tokenizer": tokenizer, "output of tokens": "o"}))
    write_lines(
        run.events,
        [
            {"time": "", "unix_time": T, "event": "launch", "ranks": 2, "command_began": T - 5},
            {
                "time": "",
                "unix_time": T + 10,
                "event": "start",
                "step": 0,
                "ranks": 2,
                "abandoned_steps": 0,
                "device": "CPU",
                "parameters": 1234,
                "environment": {},
            },
            {"time": "", "unix_time": T + 12, "event": "first step", "phases": {}},
            {"time": "", "unix_time": T + 18, "event": "end", "step": 4},
            {"time": "", "unix_time": T + 20, "event": "ranks ended"},
        ],
    )
    write_lines(run.metrics, [step_line(step) for step in (1, 2, 3, 4)])
    return run.path


def step_line(step: int) -> dict[str, object]:
    """Return the line of a step: its loss is 5 - step / 2, the held-out one a quarter above."""
    line: dict[str, object] = {
        "step": step,
        "tokens": 32 * step,
        "loss": 5 - step / 2,
        "tflops": 1.0,
        "tokens_per_second": 16.0,
        "step_seconds": 2.0,
        "data_wait_seconds": 0.0,
        "unix_time": T + 10 + 2 * step,
    }
    if step >= 3:
        line |= {"validation_loss": 5.25 - step / 2, "validation_bits_per_byte": 2 - step / 10}
    return line


def write_lines(path: Path, records: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def run_by_hand(config: RunConfig, name: str, **changes: object) -> ComparedRun:
    """Return a run of two steps, of which the second one is validated."""
    points = [
        StepPoint(100, 1e9, 10.0, 4.0, None, None),
        StepPoint(200, 2e9, 20.0, 3.5, 3.6, 1.5),
    ]
    run = ComparedRun(
        name=name,
        path=Path(name),
        config=config,
        points=points,
        tokenizer="t",
        held_out="h",
        held_out_text="d",
        steps=2,
        parameters=1000,
        tokens_per_second=10.0,
        account=None,
        branches_off=False,
        are_data_as_read=True,
        facts={},
    )
    return replace(run, **changes)  # pyright: ignore[reportArgumentType]


def with_end(run: ComparedRun, loss: float) -> ComparedRun:
    """Return a run whose last held-out loss is another one."""
    return replace(run, points=[run.points[0], replace(run.points[1], validation_loss=loss)])
