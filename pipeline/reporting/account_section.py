"""The section of the page on where the run's time went."""

import matplotlib as mpl

from pipeline.logs import human_seconds
from pipeline.reporting.account_words import (
    ShownPart,
    account_headline,
    energy_in_words,
    shown_parts,
)
from pipeline.reporting.figures import COLOURS, GREY, STYLE, canvas, label_shares, svg_of
from pipeline.reporting.page import (
    Cell,
    escape,
    figure_with_caption,
    html_table,
    note_below,
    section,
)
from pipeline.reporting.run_account import CAUSES, PARTS, RunAccount

TITLE = "Where the time went"
LEAST_DRAWN_SHARE = 0.005
"""A smaller share of the wall time is not drawn: it would be a hairline."""
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\")
"""Patterns of the causes for which steps were lost, which share a colour."""
LOST_COLOUR = COLOURS[7]
PART_COLOURS = {
    "training": COLOURS[2],
    "waiting for data": COLOURS[5],
    "validation": COLOURS[0],
    "saving": COLOURS[4],
    "start-up": COLOURS[1],
    "restarts": COLOURS[9],
    "ending": COLOURS[8],
    "before training": COLOURS[6],
    "queue": COLOURS[3],
    "between jobs": "#b9bec5",
    "not recorded": GREY,
}


def account_section(account: RunAccount | None) -> str:
    """Return the parts of the run's wall time as a bar and a table; "" where nothing tells them."""
    if account is None or account.wall_seconds == 0:
        return ""
    parts = shown_parts(account)
    rows: list[list[Cell]] = [
        [part.name, part.detail, human_seconds(part.seconds), f"{part.share:.1%}"] for part in parts
    ]
    rows.append(["together", "", human_seconds(account.wall_seconds), "100.0%"])
    figure = figure_with_caption(
        time_bar(parts), "Share of each part in the wall time of the run, over all its jobs."
    )
    table = html_table(["part", "", "time", "share"], rows, text_columns=2)
    return section(
        TITLE,
        f"<p>{escape(account_headline(account))}.{_energy(account)}</p>",
        f"<div class=pair>{figure}<div>{table}</div></div>",
        note_below(
            "ETTR, the effective training time ratio, is the time of steps that the run kept over "
            "its wall time without the time between jobs (Kokolis et al. 2024, arXiv 2410.21680). "
            "Lost steps were made and then made again, because a later start continued from an "
            "earlier checkpoint; their time includes that until the ranks had ended. Hours of "
            "devices count from the beginning of each command to the end of its ranks."
        ),
    )


def _energy(account: RunAccount) -> str:
    """Return a sentence on the energy; "" where no device told any."""
    if account.joules is None:
        return ""
    return (
        f" The devices used {energy_in_words(account.joules)}, measured for "
        f"{human_seconds(account.joules_seconds)}."
    )


def time_bar(parts: list[ShownPart]) -> str:
    """Draw the parts of the wall time as one bar, with a legend below."""
    drawn = [part for part in parts if part.share >= LEAST_DRAWN_SHARE]
    rows = -(-len(drawn) // 2)
    with mpl.rc_context(STYLE):
        figure, axes = canvas(0.8 + 0.26 * rows, 4.7)
        left = 0.0
        for part in drawn:
            axes.barh(
                [0],
                [part.share],
                0.66,
                left=[left],
                color=_colour(part.name),
                hatch=_hatch(part.name),
                edgecolor="white",
                label=f"{part.name} {part.share:.1%}",
            )
            label_shares(axes, [part.share], [left])
            left += part.share
        axes.set_xlim(0, max(left, 1e-9))
        axes.set_axis_off()
        figure.legend(loc="outside lower left", ncols=2)
        return svg_of(figure)


def _colour(name: str) -> str:
    return PART_COLOURS.get(name, LOST_COLOUR)


def _hatch(name: str) -> str:
    """Return the pattern of a part: lost steps have one for each cause."""
    if name in PARTS:
        return ""
    return HATCHES[[f"lost: {cause}" for cause in CAUSES].index(name)]
