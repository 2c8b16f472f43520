"""Measure what a save costs training: our save and DeepSpeed's own, in turns.

Writes checkpoints to the run folder of the loop that it measures.
"""

import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.benchmarks.checkpoint import SaveCosts, SaveFigures
from pipeline.benchmarks.training.training_loops import OurLoop
from pipeline.checkpoint.state import TrainState
from pipeline.engine.deepspeed_engine import Engine
from pipeline.store.layout import RunFolder, checkpoint_folders
from pipeline.training.loop import probe_logits

STEPS_BETWEEN = 3
"""Steps before, and again after DeepSpeed's save, whose median is the time of a step."""


@dataclass(frozen=True)
class _Round:
    """One save of each kind; times in seconds."""

    ours: SaveCosts
    deepspeed: float
    step: float


def measure_saves(loop: OurLoop, count: int) -> SaveFigures:
    """Measure saves of both kinds in turn; return medians in seconds and the checkpoint's bytes.

    The first save of each kind warms up and is not counted. The disk is synced after each save, so
    that none waits for another one's writes or deletions.
    """
    rounds = [_measure_round(loop, number) for number in range(1, count + 2)]
    counted = rounds[1:]
    checkpoints = RunFolder(loop.run.config.paths.run_dir).checkpoints
    written = checkpoint_folders(checkpoints)[0]
    return {
        "ours": _medians([each.ours for each in counted]),
        "deepspeed": {"lost": statistics.median(each.deepspeed for each in counted)},
        "step": statistics.median(each.step for each in counted),
        "bytes": sum(path.stat().st_size for path in written.iterdir()),
    }


def _measure_round(loop: OurLoop, number: int) -> _Round:
    """Measure one save of each kind; `number` is the step that our checkpoint names."""
    run = loop.run

    # DeepSpeed's save, between steps without a save.
    plain = [_seconds(loop.step) for _ in range(STEPS_BETWEEN)]
    deepspeed = _save_with_deepspeed(run.engine, run.config.paths.run_dir / "deepspeed")
    plain += [_seconds(loop.step) for _ in range(STEPS_BETWEEN)]
    step = statistics.median(plain)

    # Our save: the wait for the copies, then steps beside the writing thread.
    began = time.perf_counter()
    run.saver.save(replace(TrainState(), step=number), probe_logits(run))
    stall = time.perf_counter() - began
    beside: list[float] = []
    while not run.saver.has_written:
        beside.append(_seconds(loop.step))
    publish = _seconds(run.saver.publish)
    run.saver.finish()
    os.sync()

    # The cost is what training would have gained without the save.
    slowdown = sum(beside) - len(beside) * step
    costs: SaveCosts = {
        "lost": stall + slowdown + publish,
        "stall": stall,
        "slowdown": slowdown,
        "publish": publish,
    }
    return _Round(costs, deepspeed, step)


def _medians(costs: Sequence[SaveCosts]) -> SaveCosts:
    return {
        "lost": statistics.median(each["lost"] for each in costs),
        "stall": statistics.median(each["stall"] for each in costs),
        "slowdown": statistics.median(each["slowdown"] for each in costs),
        "publish": statistics.median(each["publish"] for each in costs),
    }


def _save_with_deepspeed(engine: Engine, folder: Path) -> float:
    """Return the seconds of DeepSpeed's own save and of syncing its files; remove them again."""
    began = time.perf_counter()
    engine.save_checkpoint(str(folder), tag="saved")
    for path in [*(folder / "saved").iterdir(), folder / "saved", folder]:
        if path.is_file() or path.is_dir():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    os.sync()
    return seconds


def _seconds(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
