"""What `pipeline benchmark loader` has measured: sizes, figures, their limits, tables.

Prints the tables; reads and writes no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from pipeline.benchmarks.common import Figures, Medians, met_or_missed, show_table
from pipeline.benchmarks.corpora import DTYPE
from pipeline.logs import console, human_bytes

GPU_TOKENS_PER_SECOND = 0.5e6
"""Tokens per second that one GPU at half of 989 TFLOP/s (H100, bf16) trains on.

For a model of N = 125 M weights, 12 layers, d = 768, T = 2,048:
494.5e12 / (6 N + 12 x 12 d T) = 0.51e6 (the formula: Chowdhery et al. 2022, appendix B)."""
BARE = "bare loop over a memory map"
BARE_KEPT = "the same, inputs and targets, kept"
BY_TABLE = "by the table of shards"
BY_MANIFEST = "by the manifest"
SIMULATED_RANKS = 1024
"""Ranks of one job for which the bytes of opening the data are added up."""
PLAIN = "one thread"
PLAIN_LOCATED = "one thread, places by 2,048"
LOADER = "loader, full"
START_SECONDS = 1.0
"""Maximum time to the first step."""
START_BYTES = 300e6
"""Maximum memory at the first step."""
MOST_BYTES_PER_MANIFEST_BYTE = 5.0
"""Maximum growth of memory with the corpus, in bytes per byte of the corpus's manifest."""
LEAST_RATE = 20e6
"""Minimum rate, in tokens per second."""
LEAST_RATIO = 0.5
"""Minimum rate, as a fraction of the bare loop's."""
MOST_WAITED = 0.005
"""Maximum share of the time after the first step that steps may wait for slow files."""


@dataclass(frozen=True)
class Corpus:
    """Size of one simulated corpus: number of tokens, and of files that hold them."""

    name: str
    tokens: int
    files: int


@dataclass(frozen=True)
class LoaderSizes:
    """How much the loader benchmark measures."""

    corpora: Sequence[Corpus] = (
        Corpus("1 GB", 500_000_000, 10),
        Corpus("100 GB", 50_000_000_000, 420),
        Corpus("2.4 TB", 1_200_000_000_000, 10_000),
        Corpus("2.4 TB, many files", 1_200_000_000_000, 100_000),
    )
    """Simulated corpora, 2 bytes a token; the first and third one are compared with the limits."""
    resumed_sample: int = 500_000_000
    """Sample at which a resumed run starts."""
    sequence_length: int = 2048
    real_tokens: int = 250_000_000
    """Tokens in the file that is read from the page cache."""
    mean_document: int = 800
    """Mean length of a document, in tokens."""
    batches: int = 1500
    """Batches of 32 rows in each measurement."""
    slow_steps: int = 100
    """Steps that read from a slow file system."""
    step_seconds: float = 0.1
    """Seconds of each of these steps, without reading."""
    read_seconds: float = 0.005
    """Seconds of each read on a slow file system."""

    @property
    def smallest(self) -> Corpus:
        """Corpus that the large one's memory is compared with."""
        return self.corpora[0]

    @property
    def large(self) -> Corpus:
        """Corpus whose figures are compared with the limits of a large one: the third, or the last of fewer."""
        return self.corpora[min(2, len(self.corpora) - 1)]


class CheckedLimit(TypedDict):
    """A measured figure and its limit."""

    what: str
    """Name of the figure, with its unit."""
    measured: float
    limit: float
    at_least: bool
    """Whether the limit is a lower one."""
    met: bool


class LoaderFigures(TypedDict):
    """Everything that the loader benchmark has measured.

    Figures are medians over the rounds, `ratios` are quotients of them, and `reads` are counted once."""

    rounds: int
    start: Medians
    """Corpus and first sample -> seconds and memory until the first step."""
    opening: Medians
    """Way of learning all shards -> seconds, bytes read and memory of a rank."""
    packing: Figures
    """Rate, memory and result of best-fit packing."""
    rates: Medians
    """Way of reading -> tokens per second from the page cache."""
    ratios: dict[str, dict[str, float]]
    """Bare loop -> way of reading -> its rate, divided by the bare loop's."""
    slow: Medians
    """Shuffle -> times of waiting for slow files."""
    reads: dict[str, Figures]
    """Shuffle -> number and size of the reads of an epoch."""


class LoaderResults(LoaderFigures):
    """Content of the loader benchmark's JSON file: its figures, and the limits they must meet."""

    limits: list[CheckedLimit]


def start_name(corpus: Corpus, sample: int) -> str:
    """Return the name of a start on a simulated corpus, at a sample."""
    return f"{corpus.name}, sample {sample:,}"


def rate_ratios(rates: Mapping[str, Figures], bare: str) -> dict[str, float]:
    """Return each rate divided by the rate of the bare loop `bare`."""
    return {
        name: figures["tokens_per_second"] / rates[bare]["tokens_per_second"]
        for name, figures in rates.items()
    }


def checked_limits(figures: LoaderFigures, sizes: LoaderSizes) -> list[CheckedLimit]:
    """Compare the measured figures with their limits."""
    # Start-up, which must not grow with the corpus, but for its manifest.
    large = sizes.large.name
    smallest = sizes.smallest.name
    first = figures["start"][start_name(sizes.large, 0)]
    resumed = figures["start"][start_name(sizes.large, sizes.resumed_sample)]
    growth = first["peak_bytes"] - figures["start"][start_name(sizes.smallest, 0)]["peak_bytes"]
    limits = [
        _at_most(f"{large}: seconds to the first step", first["seconds"], START_SECONDS),
        _at_most(f"{large}: seconds, resumed", resumed["seconds"], START_SECONDS),
        _at_most(f"{large}: bytes of memory", first["peak_bytes"], START_BYTES),
        _at_most(
            f"{large}: bytes more than {smallest}, per byte of manifest",
            growth / first["manifest_bytes"],
            MOST_BYTES_PER_MANIFEST_BYTE,
        ),
    ]

    # Rates of one thread and of the loader, alone and beside bare loops.
    plain = f"{PLAIN_LOCATED}, full"
    rates = figures["rates"]
    ratios = figures["ratios"]
    limits += [
        _at_least(f"{plain}: tokens/s", rates[plain]["tokens_per_second"], LEAST_RATE),
        _at_least(f"{plain}: of the bare loop", ratios[BARE][plain], LEAST_RATIO),
        _at_least(f"{LOADER}: tokens/s", rates[LOADER]["tokens_per_second"], LEAST_RATE),
        _at_least(f"{LOADER}: of the bare loop that keeps", ratios[BARE_KEPT][LOADER], LEAST_RATIO),
    ]

    # Waiting for slow files.
    limits += [
        _at_most(f"{name}: share waited", waits["waited"], MOST_WAITED)
        for name, waits in figures["slow"].items()
    ]
    return limits


def _at_least(what: str, measured: float, limit: float) -> CheckedLimit:
    met = measured >= limit
    return {"what": what, "measured": measured, "limit": limit, "at_least": True, "met": met}


def _at_most(what: str, measured: float, limit: float) -> CheckedLimit:
    met = measured <= limit
    return {"what": what, "measured": measured, "limit": limit, "at_least": False, "met": met}


def show_results(results: LoaderResults, sizes: LoaderSizes) -> None:
    """Print all figures and limits as tables."""
    # Start-up.
    starts = [
        (
            name,
            human_bytes(figures["manifest_bytes"]),
            f"{figures['open_seconds']:.2f}",
            f"{figures['seconds']:.2f}",
            human_bytes(figures["imported_bytes"]),
            human_bytes(figures["peak_bytes"]),
        )
        for name, figures in results["start"].items()
    ]
    show_table(
        f"From after imports to the first step, medians of {results['rounds']} rounds",
        ("corpus", "manifest", "opened, s", "first step, s", "memory before", "peak memory"),
        starts,
    )

    _show_opening(results, sizes)

    # Rates, and what packing costs.
    show_table(
        f"From the page cache: {human_bytes(sizes.real_tokens * DTYPE.itemsize)}, rows of "
        f"{sizes.sequence_length:,} tokens",
        ("part", "Mtok/s", "us per row", "of the bare loop", "of the one that keeps"),
        [_rate_row(name, results, sizes) for name in results["rates"]],
    )
    packing = results["packing"]
    console.print(
        f"Best-fit packing of documents of {sizes.mean_document:,} tokens: "
        f"{packing['tokens_per_second'] / 1e6:.1f} M tokens/s, "
        f"{packing['index_bytes_per_token']:.3f} bytes of index a "
        f"token, {human_bytes(packing['peak_bytes'])} of memory, {packing['cut_documents']:.1%} of "
        "documents cut\n"
    )

    # Reading, the limits, and what a GPU needs.
    _show_reading(results, sizes)
    show_table(
        "Limits",
        ("", "measured", "limit", ""),
        [_limit_row(limit) for limit in results["limits"]],
    )
    rate = results["rates"][LOADER]["tokens_per_second"]
    console.print(
        f"A GPU at 50 % MFU on a 125M model needs about {GPU_TOKENS_PER_SECOND / 1e6:.1f} M "
        "tokens/s: one loader gives "
        f"{rate / GPU_TOKENS_PER_SECOND:,.0f} times that"
    )


def _show_opening(results: LoaderResults, sizes: LoaderSizes) -> None:
    files = max(corpus.files for corpus in sizes.corpora)
    show_table(
        f"A rank learns {files:,} shards of both splits",
        ("", "s", "CPU, s", "read", f"read by {SIMULATED_RANKS:,} ranks", "peak memory"),
        [
            (
                name,
                f"{figures['seconds']:.2f}",
                f"{figures['cpu_seconds']:.2f}",
                human_bytes(figures["read_bytes"]),
                human_bytes(figures["read_bytes"] * SIMULATED_RANKS),
                human_bytes(figures["peak_bytes"]),
            )
            for name, figures in results["opening"].items()
        ],
    )


def _rate_row(name: str, results: LoaderResults, sizes: LoaderSizes) -> Sequence[str]:
    rate = results["rates"][name]["tokens_per_second"]
    per_row = f"{sizes.sequence_length / rate * 1e6:.1f}"
    shares = (f"{results['ratios'][bare][name]:.2f}" for bare in (BARE, BARE_KEPT))
    return (name, f"{rate / 1e6:.1f}", per_row, *shares)


def _limit_row(limit: CheckedLimit) -> Sequence[str]:
    sign = "<="
    if limit["at_least"]:
        sign = ">="
    return (
        limit["what"],
        f"{limit['measured']:,.4g}",
        f"{sign} {limit['limit']:,.4g}",
        met_or_missed(limit["met"]),
    )


def _show_reading(results: LoaderResults, sizes: LoaderSizes) -> None:
    # Slow files.
    show_table(
        f"Reads that take {sizes.read_seconds * 1e3:.0f} ms, steps that take "
        f"{sizes.step_seconds * 1e3:.0f} ms",
        ("", "first step waited, s", "longest later, s", "waited after the first"),
        [
            (
                name,
                f"{figures['first_wait_seconds']:.3f}",
                f"{figures['longest_wait_seconds']:.4f}",
                f"{figures['waited']:.3%}",
            )
            for name, figures in results["slow"].items()
        ],
    )

    # What shuffling costs in reads.
    show_table(
        "Reads of an epoch",
        ("shuffle", "rows", "reads", "mean size"),
        [
            (
                name,
                f"{figures['rows']:,}",
                f"{figures['reads']:,}",
                human_bytes(figures["mean_bytes"]),
            )
            for name, figures in results["reads"].items()
        ],
    )
