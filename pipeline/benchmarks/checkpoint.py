"""`pipeline benchmark checkpoint`: seconds that training loses to our save and to DeepSpeed's own.

Our cost counts everything that training loses: the wait for the copies, the slower steps while a
thread writes, and the publishing. DeepSpeed's save returns before its files are on the disk; this
benchmark syncs them, so that both saves are equally safe. Works in a scratch folder; writes JSON.
"""

import json
import tempfile
from pathlib import Path
from typing import TypedDict

from pipeline.benchmarks.common import met_or_missed, run_python, show_table, write_results
from pipeline.benchmarks.corpora import write_random
from pipeline.benchmarks.training.step_settings import (
    MEASURING_MODULE,
    ON_CPU,
    StepSettings,
    llama_section,
)

MOST_OF_DEEPSPEEDS = 0.2
"""Maximum time that a save may cost, as a fraction of the time that DeepSpeed's save costs."""
CORPUS_TOKENS = 200_000
MEAN_DOCUMENT = 800
BUILT_IN = StepSettings(llama_section(704, 12, 32_000, 256), 256, 1, 256)
"""94 million parameters: 1.5 GB a checkpoint in fp32."""


class SaveCosts(TypedDict):
    """Seconds that training loses to one of our saves."""

    lost: float
    """Sum of the parts below."""
    stall: float
    """Wait for the copies."""
    slowdown: float
    """What the steps beside the writing thread take longer."""
    publish: float
    """Publishing of the checkpoint."""


class DeepSpeedCosts(TypedDict):
    """Seconds that training loses to one of DeepSpeed's saves."""

    lost: float


class SaveFigures(TypedDict):
    """Costs of saves of both kinds, medians."""

    ours: SaveCosts
    deepspeed: DeepSpeedCosts
    step: float
    """Seconds of a step without a save."""
    bytes: int
    """Size of one of our checkpoints."""


def benchmark_checkpoint(
    count: int, folder: Path | None, output: Path, settings: StepSettings = BUILT_IN
) -> None:
    """Measure `count` saves of each kind in turn, print tables and write JSON.

    `folder` chooses the disk that is measured; None: the disk of temporary files.
    """
    # Measure in a fresh process.
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-", dir=folder) as scratch:
        corpus = Path(scratch)
        write_random(corpus, CORPUS_TOKENS, MEAN_DOCUMENT, settings.vocab_size)
        path = settings.write(corpus, "zero1", "saves")
        arguments = json.dumps({"config": str(path), "count": count})
        figures: SaveFigures = run_python(
            MEASURING_MODULE, "measure_save_costs", arguments, variables=ON_CPU
        ).measured

    # Print the costs.
    ours = figures["ours"]
    deepspeed = figures["deepspeed"]
    parts = (ours["lost"], ours["stall"], ours["slowdown"], ours["publish"])
    rows = [
        ("DeepSpeed's save and fsync", f"{deepspeed['lost']:.2f}", "", "", ""),
        ("ours", *(f"{seconds:.2f}" for seconds in parts)),
    ]
    show_table(
        f"Seconds that training loses to a save of {figures['bytes'] / 1e9:.2f} GB, medians of "
        f"{count}; a step takes {figures['step']:.2f} s",
        ("", "lost", "wait for copies", "slower steps", "publishing"),
        rows,
    )

    # Compare with the limit.
    name = "ours of DeepSpeed's"
    ratio = ours["lost"] / deepspeed["lost"]
    met = ratio <= MOST_OF_DEEPSPEEDS
    show_table(
        "Limit",
        ("", "measured", "at most", ""),
        [(name, f"{ratio:.3f}", f"{MOST_OF_DEEPSPEEDS}", met_or_missed(met))],
    )
    limits = {name: {"measured": ratio, "at_most": MOST_OF_DEEPSPEEDS, "met": met}}
    write_results(output, {"rounds": count, **figures, "limits": limits})
