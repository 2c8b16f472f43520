"""`pipeline benchmark checkpoint`: seconds that training loses to our save and to DeepSpeed's own.

Our cost counts everything that training loses: the wait for the copies, the slower steps while a
thread writes, and the publishing. DeepSpeed's save returns before its files are on the disk; this
benchmark syncs them, so that both saves are equally safe. Works in a scratch folder; writes JSON.
"""

import os
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.benchmarks.common import met_or_missed, run_python, show_table, write_results
from pipeline.benchmarks.corpora import write_random
from pipeline.benchmarks.train import PARTS_MODULE, Work, llama
from pipeline.store.layout import RunFolder, checkpoint_folders
from pipeline.store.records import RunFacts

MOST_OF_DEEPSPEEDS = 0.2
"""Largest cost of our save that is accepted, as a fraction of DeepSpeed's."""
CORPUS_TOKENS = 200_000
BUILT_IN = Work(llama(704, 12, 32_000, 256), 256, 1, 256)
"""94 million parameters: 1.5 GB a checkpoint in fp32."""


def benchmark_checkpoint(
    count: int, folder: Path | None, output: Path, work: Work = BUILT_IN
) -> None:
    """Measure `count` saves of each kind in turn, print tables and write JSON.

    `folder` chooses the disk that is measured; None: the disk of temporary files.
    """
    # Measure in a fresh process.
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-", dir=folder) as scratch:
        corpus = Path(scratch)
        write_random(corpus, CORPUS_TOKENS, 800, work.model["config"]["vocab_size"])
        path = work.write(corpus, "zero1", "saves")
        arguments = f'{{"config": "{path}", "count": {count}}}'
        medians = run_python(
            PARTS_MODULE, "saves", arguments, environment={"DS_ACCELERATOR": "cpu"}
        ).result

    # Print the costs.
    ours = medians["ours"]
    deepspeeds = medians["deepspeed"]
    rows = [
        ("DeepSpeed's save and fsync", f"{deepspeeds['lost']:.2f}", "", "", ""),
        ("ours", *(f"{ours[part]:.2f}" for part in ("lost", "stall", "slowdown", "publish"))),
    ]
    show_table(
        f"Seconds that training loses to a save of {medians['bytes'] / 1e9:.2f} GB, medians of "
        f"{count}; a step takes {medians['step']:.2f} s",
        ("", "lost", "wait for copies", "slower steps", "publishing"),
        rows,
    )

    # Compare with the limit.
    ratio = ours["lost"] / deepspeeds["lost"]
    met = ratio <= MOST_OF_DEEPSPEEDS
    limit = f"{MOST_OF_DEEPSPEEDS}"
    show_table(
        "Limit",
        ("", "measured", "at most", ""),
        [("ours of DeepSpeed's", f"{ratio:.3f}", limit, met_or_missed(met))],
    )
    limits = {"ours of DeepSpeed's": {"measured": ratio, "at_most": MOST_OF_DEEPSPEEDS, "met": met}}
    write_results(output, {"rounds": count, **medians, "limits": limits})


def measure_saves(ours: Any, run_dir: Path, count: int) -> dict[str, Any]:
    """Measure saves of both kinds in turn; return medians in seconds and the checkpoint's bytes.

    `ours` is a `train_parts.Ours`. The first save of each kind warms up and is not counted. The
    disk is synced after each save, so that none waits for another one's writes or deletions.
    """
    from pipeline.checkpoint.saver import Saver
    from pipeline.checkpoint.state import TrainState
    from pipeline.training.loop import probe_logits

    config = ours.config
    run_facts: RunFacts = {"model": {}, "tokenizer": "", "lineage": []}
    saver = Saver(ours.engine, ours.run.groups, run_dir, config.checkpoint, run_facts)
    ours.use(saver)
    rounds = []
    for number in range(count + 1):
        # DeepSpeed's save, between steps without a save.
        plain = [_seconds(ours.step) for _ in range(3)]
        deepspeeds = _deepspeeds(ours.engine, run_dir / "deepspeed")
        step = statistics.median([*plain, *(_seconds(ours.step) for _ in range(3))])

        # Our save: the wait for the copies, then steps beside the writing thread.
        began = time.perf_counter()
        saver.save(replace(TrainState(), step=number + 1), probe_logits(ours.run))
        stall = time.perf_counter() - began
        beside = []
        while not saver.has_written:
            beside.append(_seconds(ours.step))
        publish = _seconds(saver.publish)
        saver.finish()
        os.sync()

        # The cost is what training would have gained without the save.
        slowdown = sum(beside) - len(beside) * step
        costs = {
            "lost": stall + slowdown + publish,
            "stall": stall,
            "slowdown": slowdown,
            "publish": publish,
        }
        rounds.append({"ours": costs, "deepspeed": {"lost": deepspeeds}, "step": step})

    # Medians over all rounds but the first.
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


def _seconds(action: Any) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
