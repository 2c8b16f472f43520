"""What `pipeline benchmark tokenize` has measured: figures, their ratios, tables.

Prints the tables; reads and writes no file.
"""

from collections.abc import Sequence
from typing import TypedDict

from pipeline.benchmarks.common import Figures, Medians, show_table
from pipeline.logs import console, human_bytes

STAGE_ONE = "whole stage, 1 worker"
STAGE_AUTO = "whole stage, workers: auto"
STAGE_PARTS = ("Parquet read", "encode", "write")
"""Parts that the stage consists of."""
CORPUS_TIMES = "corpus x "
"""Beginning of the name of a corpus that holds each document several times."""
IN_MEMORY = ", gigatoken in memory, 1 thread"
"""End of the name of the measurement of gigatoken alone."""
WITH_LARGE_DOCUMENT = "with a document of 200 MB, 1 worker"
LARGE_DOCUMENT_BYTES = 200_000_000
REDPAJAMA_1T_BYTES = 5e12
"""Source: Together, RedPajama-Data-1T: 1.2 T tokens, about 5 TB on disk unpacked."""


class TokenizeResults(TypedDict):
    """What the JSON file holds. Times are in seconds."""

    text_bytes: int
    """Bytes of all documents."""
    tokens: int
    """Tokens of all documents."""
    rounds: int
    medians: Medians
    """Part -> seconds and memory, medians over the rounds."""
    large: Medians
    """Larger corpus and workers, or gigatoken alone -> seconds and memory, measured once."""
    ratios: dict[str, float]
    """Two measurements -> their rates, divided by each other."""


def speed_ratios(measured: Medians, large: Medians, cores: int) -> dict[str, float]:
    """Compare the measured rates with each other.

    `cores`: threads of gigatoken in the measurements with all cores.
    """
    seconds = {name: figures["seconds"] for name, figures in (measured | large).items()}

    # The stage beside gigatoken alone, on as many threads as the stage has workers.
    ratios: dict[str, float] = {}
    for threads, stage in (("1 thread", STAGE_ONE), (f"{cores} threads", STAGE_AUTO)):
        for how in ("in memory", "by row group"):
            alone = seconds[f"gigatoken {how}, {threads}"]
            ratios[f"stage / gigatoken {how}, {threads}"] = alone / seconds[stage]

    # The same with a larger corpus, where starting and loading weigh less.
    for name in large:
        if name.endswith(IN_MEMORY):
            corpus = name.removesuffix(IN_MEMORY)
            stage = seconds[f"{corpus}, 1 worker"]
            ratios[f"{corpus}: stage / gigatoken in memory, 1 thread"] = seconds[name] / stage

    # Two workers beside one.
    for name in large:
        if not name.endswith("2 workers"):
            continue
        corpus = name.rpartition(",")[0]
        one = large[f"{corpus}, 1 worker"]
        two = large[name]
        ratios[f"{corpus}: 2 workers / 1, whole stage"] = one["seconds"] / two["seconds"]
        ratios[f"{corpus}: 2 workers / 1, without starting them"] = (
            one["work_seconds"] / two["work_seconds"]
        )

    # The stage before, and Megatron-LM.
    if "prepare, 1 worker" in seconds:
        stage = seconds["prepare, 1 worker"]
        loop = measured["prepare, barest loop"]
        ratios["prepare / its barest loop, both with imports"] = loop["seconds"] / stage
        ratios["prepare / its barest loop without imports"] = loop["loop_seconds"] / stage
    whole = measured[STAGE_AUTO]["wall_seconds"]
    for name, figures in measured.items():
        if name.startswith("Megatron"):
            ratios[f"whole process / {name}"] = figures["wall_seconds"] / whole
    return ratios


def show_results(results: TokenizeResults, repeat: int) -> None:
    """Print all figures as tables. `repeat`: size of the large corpus, in copies of the documents."""
    # The parts of the stage on one worker.
    medians = results["medians"]
    text_bytes = results["text_bytes"]
    tokens = results["tokens"]
    stage = medians[STAGE_ONE]["seconds"]
    rest = stage
    rows: list[Sequence[str]] = []
    for name in STAGE_PARTS:
        figures = medians[name]
        rest -= figures["seconds"]
        rows.append(_row(name, figures, text_bytes, tokens, f"{figures['seconds'] / stage:.0%}"))
    rows.append(["start, comparison, the rest", f"{rest:.2f}", "", "", f"{rest / stage:.0%}", ""])

    # The stage as a whole, everything that it is compared with, and larger corpora.
    for name, figures in medians.items():
        if name == STAGE_ONE:
            rows.append(_row(name, figures, text_bytes, tokens, "100%"))
        elif name not in STAGE_PARTS:
            rows.append(_row(name, figures, text_bytes, tokens, ""))
    for name, figures in results["large"].items():
        size = text_bytes * _copies(name)
        if name == WITH_LARGE_DOCUMENT:
            size += LARGE_DOCUMENT_BYTES
        of_copies = tokens * _copies(name)
        rows.append(_row(name, figures, size, int(figures.get("tokens", of_copies)), ""))
    show_table(
        f"Text to tokens: {human_bytes(text_bytes)}, {tokens:,} tokens, medians of "
        f"{results['rounds']} rounds",
        ("part", "seconds", "MB/s", "Mtok/s", "of the stage", "peak memory"),
        rows,
    )

    # What follows from the figures.
    show_table(
        "Ratios",
        ("of rates", ""),
        [(name, f"{ratio:.2f}") for name, ratio in results["ratios"].items()],
    )
    repeated = next(iter(results["large"].values()))
    rate = text_bytes * repeat / repeated["seconds"]
    hours = REDPAJAMA_1T_BYTES / rate / 3600
    console.print(
        f"RedPajama-1T (5 TB, 1.2 T tokens) at {rate / 1e6:.0f} MB/s of one worker: {hours:,.1f} "
        "core-hours of tokenize"
    )


def _copies(name: str) -> int:
    """Return the number of copies of each document in a corpus, read from its name."""
    copies = name.split(",")[0].removeprefix(CORPUS_TIMES)
    if copies.isdigit():
        return int(copies)
    return 1


def _row(name: str, figures: Figures, text_bytes: int, tokens: int, share: str) -> Sequence[str]:
    seconds = figures["seconds"]
    rate = text_bytes / seconds / 1e6
    speed = tokens / seconds / 1e6
    memory = human_bytes(figures["peak_bytes"])
    return [name, f"{seconds:.2f}", f"{rate:.1f}", f"{speed:.1f}", share, memory]
