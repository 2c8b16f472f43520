"""What `pipeline plan --published` prints: milestone runs, and the planned one among them.

Reads the table of published runs; writes the page, where one is asked for. Imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.logs import console, note, number_or_blank, print_json, print_wide, short
from pipeline.planning.published import (
    COUNT_6ND,
    COUNT_MULTIPLY_ADDS,
    PlannedPoint,
    PublishedRun,
    implied_mfu,
    peak_of_run,
    published_runs,
)
from pipeline.store.files import write_atomic

LEAST_WIDTH = 98
"""Columns of the table; a narrower terminal breaks its lines."""
STAR = "★"
MARKS = {COUNT_6ND: "", COUNT_MULTIPLY_ADDS: "m", "an estimate": "e"}
"""How FLOPs are counted -> letter behind them; `p` for all others."""
LEGEND = (
    "FLOPs: 6 N D; m: 6 x multiply-adds of a forward pass x samples; p: printed; e: an estimate.",
    "GPU-hours: with =, computed and not printed, such as devices x hours; of TPUs, chip-hours.",
    "MFU: implied, FLOPs / (GPU-hours x peak), for FLOPs that are counted and not printed.",
    "What the hours contain, printed rates, notes and sources: in the JSON and on the page.",
)
HEADINGS = ("run", "date", "N", "D", "FLOPs", "GPU-hours", "devices", "hardware", "MFU", "seen")
LEFT_ALIGNED = ("run", "date", "hardware", "seen")
PAGE_FIGURES = (
    "run",
    "date",
    "N",
    "D or samples",
    "FLOPs",
    "count",
    "GPU-hours",
    "devices",
    "hardware",
    "implied MFU",
)
LANDMARKS = (
    "GPT-3 175B",
    "OPT 175B",
    "BLOOM 176B",
    "LLaMA 1 65B",
    "Llama 2 70B",
    "Llama 3.1 405B",
    "Pythia 12B",
    "TinyLlama 1.1B",
    "BiT-M R152x4",
    "openCLIP ViT-L/14",
)
"""Runs whose names stand in the figure: those that planned runs are most often compared with."""
PAGE_SOURCES = ("run", "what the hours contain", "printed rate", "note", "source", "seen")


def show_published(planned: PlannedPoint | None, as_json: bool, page: Path | None) -> None:
    """Print published runs by year and FLOPs; the planned run, marked with a star, among them.

    `page`: where to write an HTML page with the figure of compute over years.
    """
    runs = published_runs()
    if page is not None:
        _write_page(page, runs, planned)
        note(f"wrote {page}")
    if as_json:
        print_json(
            {
                "runs": [_as_json(run) for run in runs],
                "planned": None if planned is None else asdict(planned),
            }
        )
        return
    _print_table(runs, planned)


def _as_json(run: PublishedRun) -> dict[str, str | float | None]:
    """Return a run with what follows from it."""
    return {
        **asdict(run),
        "flops": run.flops,
        "flops_count": run.flops_count,
        "implied_mfu": implied_mfu(run, peak_of_run(run)),
    }


def _print_table(runs: Sequence[PublishedRun], planned: PlannedPoint | None) -> None:
    """Print one line a run."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        justify = "left" if heading in LEFT_ALIGNED else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    place = _place_of_planned(runs, planned)
    for number, run in enumerate(runs):
        if planned is not None and number == place:
            table.add_row(*_planned_fields(planned), style="bold")
        table.add_row(*_fields(run))
    if planned is not None and place == len(runs):
        table.add_row(*_planned_fields(planned), style="bold")
    print_wide(table, LEAST_WIDTH)
    console.print("")
    for line in LEGEND:
        console.print(line)


def _place_of_planned(runs: Sequence[PublishedRun], planned: PlannedPoint | None) -> int:
    """Return how many runs stand before the planned one, by year and FLOPs."""
    if planned is None:
        return len(runs)
    key = (int(planned.year), planned.flops)
    return sum((run.year, run.flops or math.inf) <= key for run in runs)


def _fields(run: PublishedRun) -> list[str]:
    """Return the fields of a run in the terminal."""
    return [
        run.name,
        run.published,
        _short_or_blank(run.parameters),
        _short_or_blank(run.tokens or run.samples),
        _flops(run),
        _gpu_hours(run),
        number_or_blank(run.devices, ",d"),
        run.hardware,
        number_or_blank(implied_mfu(run, peak_of_run(run)), ".2f"),
        run.seen,
    ]


def _planned_fields(planned: PlannedPoint) -> list[str]:
    """Return the fields of the planned run in the terminal."""
    return [
        f"{STAR} {planned.name}",
        str(int(planned.year)),
        "",
        "",
        f"{_scientific(planned.flops)} ",
        number_or_blank(planned.gpu_hours, ",.0f"),
        "",
        "",
        "",
        "planned",
    ]


def _short_or_blank(value: float | None) -> str:
    if value is None:
        return ""
    return short(value)


def _scientific(value: float) -> str:
    """Return a number as `3.14e23`."""
    return f"{value:.2e}".replace("e+", "e")


def _flops(run: PublishedRun) -> str:
    """Return FLOPs with the letter that says how they are counted; a space keeps columns even."""
    if run.flops is None:
        return ""
    mark = MARKS.get(run.flops_count, "p") or " "
    return f"{_scientific(run.flops)}{mark}"


def _gpu_hours(run: PublishedRun) -> str:
    """Return GPU-hours, with an equals sign where they are not printed."""
    if run.gpu_hours is None:
        return ""
    sign = "="
    if run.gpu_hours_from == "printed":
        sign = ""
    return f"{sign}{run.gpu_hours:,.0f}"


def _write_page(page: Path, runs: Sequence[PublishedRun], planned: PlannedPoint | None) -> None:
    """Write the page with the figure and all columns."""
    # Drawing needs matplotlib, which the table in the terminal does not wait for.
    from pipeline.reporting.milestones_page import Milestone, milestones_page

    points = [
        Milestone(run.name, run.time, run.flops, run.is_counted, run.name in LANDMARKS)
        for run in runs
        if run.flops is not None
    ]
    star: Milestone | None = None
    figures = [_page_figures(run) for run in runs]
    if planned is not None:
        star = Milestone(planned.name, planned.year, planned.flops, is_counted=True)
        place = _place_of_planned(runs, planned)
        figures.insert(place, _planned_page_figures(planned))
    sources = [_page_source(run) for run in runs]
    text = milestones_page(points, star, (PAGE_FIGURES, figures), (PAGE_SOURCES, sources))
    write_atomic(page, text)


def _page_figures(run: PublishedRun) -> list[str]:
    """Return the fields of a run in the page's table of figures."""
    return [
        run.name,
        run.published,
        _short_or_blank(run.parameters),
        _short_or_blank(run.tokens or run.samples),
        "" if run.flops is None else _scientific(run.flops),
        run.flops_count,
        _gpu_hours(run),
        number_or_blank(run.devices, ",d"),
        run.hardware,
        number_or_blank(implied_mfu(run, peak_of_run(run)), ".2f"),
    ]


def _planned_page_figures(planned: PlannedPoint) -> list[str]:
    """Return the fields of the planned run in the page's table of figures."""
    hours = number_or_blank(planned.gpu_hours, ",.0f")
    name = f"{STAR} {planned.name}"
    return [name, str(int(planned.year)), "", "", _scientific(planned.flops), "", hours, "", "", ""]


def _page_source(run: PublishedRun) -> list[str]:
    """Return the fields of a run in the page's table of sources."""
    return [run.name, _hours_in_words(run), _printed_rate(run), run.note, run.source, run.seen]


def _hours_in_words(run: PublishedRun) -> str:
    """Return where GPU-hours come from and what they contain."""
    if run.gpu_hours is None:
        return ""
    return f"{run.gpu_hours_from}; {run.hours_contain}"


def _printed_rate(run: PublishedRun) -> str:
    """Return TFLOP/s of a device and MFU as printed, with their FLOP count."""
    rates: list[str] = []
    if run.tflops_per_device is not None:
        rates.append(f"{run.tflops_per_device:g} TFLOP/s")
    if run.mfu_percent is not None:
        rates.append(f"{run.mfu_percent:g} %")
    if not rates:
        return ""
    return f"{', '.join(rates)}: {run.rate_count}"
