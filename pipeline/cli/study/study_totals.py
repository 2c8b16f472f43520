"""What the runs of a study took together, and the table of all of them. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import first_of
from pipeline.logs import counted_noun, number_or_blank, scientific, short
from pipeline.planning.model_cost import FLOPS_FORMULA
from pipeline.planning.study.points import StudyPoint
from pipeline.reporting.study.study_page import Tile, TitledTable

RUNS_NOTE = (
    f"N: parameters that multiply. D and C, in FLOPs of {FLOPS_FORMULA} a token, count the whole training, "
    "with the part that a branch took over from its trunk. `pipeline report` and its --compare count causal "
    "attention alone, 6 N + 6 L d T. Left out: why no fit uses the run."
)


MOST_NAMED = 6
"""Diverged runs that a sentence names; the table has all."""


@dataclass(frozen=True)
class StudyTotals:
    """What the runs took together."""

    done: int
    planned: int
    flops: float
    """FLOPs of the runs that are done; shared trunks count once."""
    device_hours: float | None
    """None where no run recorded its time."""
    device_hours_name: str
    """GPU-hours or device-hours."""
    not_begun: Sequence[str]
    """Names of runs."""


def total_tiles(totals: StudyTotals, used: str) -> list[Tile]:
    """Return runs, FLOPs and hours as tiles; `used`: how many runs count, in words."""
    tiles = [
        Tile(f"{totals.done} of {totals.planned}", "runs done", used),
        Tile(scientific(totals.flops), "FLOPs", f"{FLOPS_FORMULA} a token; runs done, trunks once"),
    ]
    if totals.device_hours is not None:
        tiles.append(
            Tile(f"{totals.device_hours:.3g}", totals.device_hours_name, "all runs, begun ones too")
        )
    return tiles


def diverged_sentences(points: Sequence[StudyPoint]) -> list[str]:
    """Return a sentence that names the runs that diverged; none without any."""
    diverged = [point.name for point in points if point.has_diverged]
    if not diverged:
        return []
    return [f"{counted_noun(len(diverged), 'run')} diverged: {first_of(diverged, MOST_NAMED)}."]


def runs_table(
    points: Sequence[StudyPoint], reasons: Mapping[str, str], not_begun: Sequence[str]
) -> TitledTable:
    """Return all runs of a study; `reasons`: name of a run -> why it is left out."""
    head = ["run", "left out", "seed", "N", "D", "D / N", "C", "steps", "epochs", "batch", "loss"]
    head.append("bits per byte")
    rows = [_row(point, reasons.get(point.name, point.left_out)) for point in points]
    blanks = [""] * (len(head) - 2)
    rows += [[name, "not begun", *blanks] for name in not_begun]
    return TitledTable("Runs", (head, rows), 2, RUNS_NOTE)


def _row(point: StudyPoint, reason: str) -> list[str]:
    parameters = point.parameters_multiplying
    return [
        point.name,
        reason,
        str(point.seed),
        short(parameters),
        short(point.tokens),
        short(point.tokens / parameters),
        scientific(point.flops),
        f"{point.steps:,}",
        number_or_blank(point.epochs, ".2g"),
        f"{point.batch_tokens:,}",
        number_or_blank(point.loss, ".4f"),
        number_or_blank(point.bits_per_byte, ".4f"),
    ]
