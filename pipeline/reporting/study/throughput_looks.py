"""How the figures of a throughput study look, and what their captions say."""

from pipeline.reporting.study.table_drawing import FigureLook
from pipeline.store.studies.figure_table import FigureTable

DEVICES = "devices K (data-parallel ranks)"
BARS = "Points: medians of the runs, bars: their range."
PUBLISHED = (
    "Grey: weak scaling of others, relative to their own fewest devices, which are laid on the fewest "
    "here; sources in the repository's planning/throughput/published_scaling.csv."
)
FIT = (
    "The line is t = t_c + max(0, wire / bandwidth - overlap t_c) + g (K - 1), fitted, with its 95 % "
    "band; dashed beyond the runs, up to four times their devices."
)


def throughput_look(table: FigureTable) -> FigureLook:
    """Return how one of the figures is drawn."""
    looks = {
        "throughput": FigureLook(
            DEVICES, "throughput, tokens/s", "devices", is_y_logarithmic=True, is_wide=True
        ),
        "efficiency": FigureLook(
            DEVICES, "efficiency, %", "devices", is_wide=True, least_y_range=10.0
        ),
        "communication": FigureLook(
            DEVICES,
            "share of a step in communication, %",
            "devices",
            least_y_range=5.0,
            is_wide=True,
        ),
    }
    return looks[table.name]


def throughput_caption(table: FigureTable) -> str:
    """Return what one of the figures shows."""
    captions = {
        "throughput": (
            "Tokens a second over the number of devices. Dotted: as many times the throughput of "
            f"one device at the fewest. {BARS}"
        ),
        "efficiency": (
            "The same divided by K times the throughput of one device at the fewest: tau_K / (K "
            f"tau_ref), as in Cherti and Jitsev 2021. {BARS}"
        ),
        "communication": (
            "Share of a step that the reduction of gradients and the gathering of weights take, where "
            "computing does not hide it: steps with them and without them took turns in one process "
            "after the last step of each run."
        ),
    }
    sentences = [captions[table.name]]
    if table.points_of("fit") and table.name != "communication":
        sentences.append(FIT)
    if table.points_of("published"):
        sentences.append(PUBLISHED)
    return " ".join(sentences)
