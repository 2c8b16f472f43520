"""`pipeline benchmark checkpoint`: what a save costs training, beside DeepSpeed's own save brought
to the disk.

Of ours everything counts that training loses: the wait for the copies, the slower steps while the
thread writes, the publishing. DeepSpeed's save returns before its files are on the disk; they are
synced here, so that both are as safe.
"""

import os
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.benchmarks.common import run_python, show_table, write_results
from pipeline.benchmarks.corpora import write_real
from pipeline.benchmarks.train import PARTS_MODULE, Work, llama
from pipeline.store.layout import RunFolder, checkpoint_folders
from pipeline.store.records import RunFacts

MOST_OF_DEEPSPEEDS = 0.2
CORPUS_TOKENS = 200_000
BUILT_IN = Work(llama(704, 12, 32_000, 256), 256, 1, 256)
"""94 million parameters: 1.5 GB a checkpoint in fp32."""


def benchmark_checkpoint(
    count: int, folder: Path | None, output: Path, work: Work = BUILT_IN
) -> None:
    """Measure `count` saves of each kind in turn, print a table and write JSON; `folder` is on the
    disk in question."""
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-", dir=folder) as scratch:
        corpus = Path(scratch)
        write_real(corpus, CORPUS_TOKENS, 800, work.model["config"]["vocab_size"])
        path = work.write(corpus, "zero1", "saves")
        arguments = f'{{"config": "{path}", "count": {count}}}'
        found = run_python(
            PARTS_MODULE, "saves", arguments, environment={"DS_ACCELERATOR": "cpu"}
        ).result
    ratio = found["ours"]["lost"] / found["deepspeed"]["lost"]
    rows = [
        ("DeepSpeed's save and fsync", f"{found['deepspeed']['lost']:.2f}", "", "", ""),
        (
            "ours",
            *(f"{found['ours'][part]:.2f}" for part in ("lost", "stall", "slowdown", "publish")),
        ),
    ]
    title = (
        f"Seconds that training loses to a save of {found['bytes'] / 1e9:.2f} GB, medians of "
        f"{count}; a step takes "
    )
    show_table(
        f"{title}{found['step']:.2f} s",
        ("", "lost", "wait for copies", "slower steps", "publishing"),
        rows,
    )
    met = ratio <= MOST_OF_DEEPSPEEDS
    show_table(
        "Limit",
        ("", "measured", "at most", ""),
        [
            (
                "ours of DeepSpeed's",
                f"{ratio:.3f}",
                f"{MOST_OF_DEEPSPEEDS}",
                "met" if met else "MISSED",
            )
        ],
    )
    limits = {"ours of DeepSpeed's": {"measured": ratio, "at_most": MOST_OF_DEEPSPEEDS, "met": met}}
    write_results(output, {"rounds": count, **found, "limits": limits})


def measure_saves(ours: Any, run_dir: Path, count: int) -> dict[str, Any]:
    """Let saves of both kinds take turns; `ours` is `benchmark_parts.Ours`. One save of each
    before, which counts for nothing.

    The disk comes to rest after each: no save waits for what another has left to write or to
    remove.
    """
    from pipeline.checkpoint.saver import Saver
    from pipeline.checkpoint.state import TrainState
    from pipeline.training.loop import probe_logits

    config = ours.config
    about: RunFacts = {"model": {}, "tokenizer": "", "lineage": []}
    saver = Saver(ours.engine, ours.run.groups, run_dir, config.checkpoint, about)
    ours.use(saver)
    rounds = []
    for number in range(count + 1):
        plain = [_seconds(ours.step) for _ in range(3)]
        deepspeeds = _deepspeeds(ours.engine, run_dir / "deepspeed")
        step = statistics.median([*plain, *(_seconds(ours.step) for _ in range(3))])
        began = time.perf_counter()
        saver.save(replace(TrainState(), step=number + 1), probe_logits(ours.run))
        stall = time.perf_counter() - began
        beside = []
        while not saver.has_written:
            beside.append(_seconds(ours.step))
        publish = _seconds(saver.publish)
        saver.finish()
        os.sync()
        lost = stall + sum(beside) - len(beside) * step + publish
        found = {
            "lost": lost,
            "stall": stall,
            "slowdown": sum(beside) - len(beside) * step,
            "publish": publish,
        }
        rounds.append({"ours": found, "deepspeed": {"lost": deepspeeds}, "step": step})
    written = checkpoint_folders(RunFolder(run_dir).checkpoints)[0]
    size = sum(path.stat().st_size for path in written.iterdir())
    median: dict[str, Any] = {
        side: {
            part: statistics.median(one[side][part] for one in rounds[1:])
            for part in rounds[0][side]
        }
        for side in ("ours", "deepspeed")
    }
    return {**median, "step": statistics.median(one["step"] for one in rounds[1:]), "bytes": size}


def _deepspeeds(engine: Any, folder: Path) -> float:
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


def _seconds(action: Any) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
