"""What `pipeline benchmark curate` has measured: figures, their ratios, projections, tables.

Prints the tables; reads and writes no file.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import TypedDict

from pipeline.benchmarks.common import Figures, met_or_missed, show_table
from pipeline.logs import console, human_bytes

READ_AND_WRITE = "read and write alone"
SIGNALS = "signals"
LANGUAGE = "language"
MINHASH = "minhash, 14 x 8"
PUBLISHED_BANDS = "minhash, RedPajama-v2's bands"
CONTAMINATION = "contamination"
EVERYTHING = "everything together"
WITH_PUBLISHED = "everything, signals and bands published"
THEIR_SIGNALS = "RedPajama-v2's code: signals"
THEIR_MINHASH = "RedPajama-v2's code: MinHash"
ALONE = (SIGNALS, LANGUAGE, "pii", "text_hash", MINHASH, "paragraphs", CONTAMINATION)
"""Parts that EVERYTHING consists of, each measured alone."""

WANTED_RATES = {SIGNALS: 2e6, MINHASH: 5e6, CONTAMINATION: 8e6}
"""Part -> bytes of text that a quiet core should process in a second."""
MOST_OF_SUM = 0.8
"""Largest share of the seconds of all parts alone that everything together should take."""
WANTED_RATIOS = {(SIGNALS, THEIR_SIGNALS): 3.0, (MINHASH, THEIR_MINHASH): 5.0}
"""A part and RedPajama-v2's own code for it -> the ratio of rates that is wanted."""
PUBLISHED_RATIO = (PUBLISHED_BANDS, THEIR_MINHASH)
"""The same bytes by both codes; no ratio is wanted."""

REDPAJAMA_1T_BYTES = 5e12
REDPAJAMA_1T_TOKENS = 1.2e12
"""Source: data card of RedPajama-Data-1T: 1.2 trillion tokens, about 5 TB unpacked."""
REDPAJAMA_1T_HOURS = 1500.0
"""Core-hours that annotating RedPajama-1T should take at most, with everything on."""
REDPAJAMA_V2_TOKENS = 30.4e12
"""Source: data card of RedPajama-Data-V2: head and middle of all languages without duplicates, estimated."""
REDPAJAMA_V2_BYTES = REDPAJAMA_V2_TOKENS * REDPAJAMA_1T_BYTES / REDPAJAMA_1T_TOKENS
"""The card gives no bytes: as many a token as RedPajama-1T has, 4.2."""
REDPAJAMA_V2_HOURS = 7000.0
"""Core-hours that annotating RedPajama-v2 should take at most, with its own signals and bands."""

WORKER_BYTES = 1e9
"""Memory that a worker should stay under."""
MOST_CLIENT_GROWTH = 1.1
"""Largest ratio of the client's memory at a larger corpus: it should not depend on the corpus."""


class CurateResults(TypedDict):
    """What the JSON file holds. Seconds are CPU seconds."""

    corpus: str
    """Where the documents are from."""
    documents: int
    text_bytes: int
    rounds: Mapping[str, Sequence[float]]
    """Part -> its seconds in each round; fewer where the benchmark was interrupted."""
    share_of_sum: float | None
    """Seconds of everything together / sum of the seconds of each part alone."""
    ratios: Mapping[str, float]
    """Two parts -> their rates, divided by each other."""
    core_hours: Mapping[str, float]
    """Corpus -> core-hours that annotating it takes at the rates of this run."""
    memory: Mapping[str, Figures]
    """Stage and size of the corpus -> `text_bytes`, `shards`, `worker_bytes`, `client_bytes`, `seconds`."""


def median_seconds(rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median seconds of each part that was measured."""
    return {name: statistics.median(seconds) for name, seconds in rounds.items() if seconds}


def share_of_sum(seconds: Mapping[str, float]) -> float | None:
    """Return what everything together takes of the sum of the parts; None where some are missing."""
    parts = [name for name in ALONE if name in seconds]
    if EVERYTHING not in seconds or len(parts) < len(ALONE):
        return None
    return seconds[EVERYTHING] / sum(seconds[name] for name in parts)


def rate_ratios(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the rate of each part of ours / that of RedPajama-v2's code, where both were measured."""
    return {
        f"{ours} / {theirs}": seconds[theirs] / seconds[ours]
        for ours, theirs in (*WANTED_RATIOS, PUBLISHED_RATIO)
        if ours in seconds and theirs in seconds
    }


def core_hours(corpus_bytes: float, bytes_per_second: float) -> float:
    """Return the hours that one core takes for a corpus."""
    return corpus_bytes / bytes_per_second / 3600


def projections(seconds: Mapping[str, float], text_bytes: int) -> dict[str, float]:
    """Return the core-hours of annotating two published corpora, where the rates were measured."""
    hours: dict[str, float] = {}
    for corpus, part, corpus_bytes in (
        ("RedPajama-1T", EVERYTHING, REDPAJAMA_1T_BYTES),
        ("RedPajama-v2", WITH_PUBLISHED, REDPAJAMA_V2_BYTES),
    ):
        if part in seconds:
            hours[corpus] = core_hours(corpus_bytes, text_bytes / seconds[part])
    return hours


def show_curate_results(results: CurateResults) -> None:
    """Print all that was measured, which may be less than everything."""
    _show_rates(results)
    rows: list[Sequence[str]] = []
    share = results["share_of_sum"]
    if share is not None:
        verdict = met_or_missed(share <= MOST_OF_SUM)
        rows.append(
            (
                "everything together / parts one by one, seconds",
                f"{share:.2f}",
                f"{MOST_OF_SUM}",
                verdict,
            )
        )
    wanted = {f"{ours} / {theirs}": ratio for (ours, theirs), ratio in WANTED_RATIOS.items()}
    for name, ratio in results["ratios"].items():
        row = [f"{name}, rates", f"{ratio:.2f}", "", ""]
        if name in wanted:
            row[2:] = [f"{wanted[name]:.0f}", met_or_missed(ratio >= wanted[name])]
        rows.append(row)
    if rows:
        show_table("Ratios", ("", "measured", "wanted", ""), rows)
    _show_projections(results["core_hours"])
    _show_memory(results["memory"])


def _show_rates(results: CurateResults) -> None:
    """Print the rate of each part: the median, and the slowest and fastest round."""
    text_bytes = results["text_bytes"]
    rows: list[Sequence[str]] = []
    for name, seconds in results["rounds"].items():
        if not seconds:
            continue
        rates = [
            text_bytes / each / 1e6
            for each in (statistics.median(seconds), max(seconds), min(seconds))
        ]
        row = [name, *(f"{rate:.2f}" for rate in rates), str(len(seconds)), "", ""]
        if name in WANTED_RATES:
            wanted = WANTED_RATES[name] / 1e6
            row[5:] = [f"{wanted:.0f}", met_or_missed(rates[0] >= wanted)]
        rows.append(row)
    show_table(
        f"Annotating {results['documents']:,} documents, {human_bytes(text_bytes)} of text from "
        f"{results['corpus']}, on one core",
        ("part", "MB/s", "slowest", "fastest", "rounds", "wanted", ""),
        rows,
    )


def _show_projections(hours: Mapping[str, float]) -> None:
    for corpus, what, corpus_bytes, most in (
        ("RedPajama-1T", "with everything on", REDPAJAMA_1T_BYTES, REDPAJAMA_1T_HOURS),
        (
            "RedPajama-v2",
            "head and middle without duplicates, with its own signals and bands",
            REDPAJAMA_V2_BYTES,
            REDPAJAMA_V2_HOURS,
        ),
    ):
        if corpus in hours:
            verdict = met_or_missed(hours[corpus] <= most)
            console.print(
                f"{corpus} ({corpus_bytes / 1e12:.0f} TB of text), {what}: {hours[corpus]:,.0f} "
                f"core-hours of annotate (under {most:,.0f} wanted: {verdict})"
            )


def _show_memory(memory: Mapping[str, Figures]) -> None:
    if not memory:
        return
    rows = [
        (
            name,
            human_bytes(figures["text_bytes"]),
            f"{figures['shards']:.0f}",
            human_bytes(figures["worker_bytes"]) if figures["worker_bytes"] else "none",
            met_or_missed(figures["worker_bytes"] < WORKER_BYTES),
            human_bytes(figures["client_bytes"]),
            f"{figures['seconds']:.1f}",
        )
        for name, figures in memory.items()
    ]
    show_table(
        f"Peak memory with two workers (a worker under {human_bytes(WORKER_BYTES)} wanted)",
        ("stage and corpus", "text", "shards", "a worker", "", "client", "seconds"),
        rows,
    )
    for stage, growth in client_growth(memory).items():
        verdict = met_or_missed(growth <= MOST_CLIENT_GROWTH)
        console.print(
            f"{stage}: the client's memory grows by a factor of {growth:.2f} (at most "
            f"{MOST_CLIENT_GROWTH} wanted: {verdict})"
        )


def client_growth(memory: Mapping[str, Figures]) -> dict[str, float]:
    """Return for each stage the client's memory with the most shards / with the fewest."""
    by_stage: dict[str, list[Figures]] = {}
    for name, figures in memory.items():
        by_stage.setdefault(name.split(",")[0], []).append(figures)
    growth: dict[str, float] = {}
    for stage, measured in by_stage.items():
        if len(measured) > 1:
            in_order = sorted(measured, key=lambda figures: figures["shards"])
            growth[stage] = in_order[-1]["client_bytes"] / in_order[0]["client_bytes"]
    return growth
