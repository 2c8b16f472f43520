"""Lines that every plan prints: headings, sizes of the data, hours, what the numbers rest on."""

from collections.abc import Mapping

from pipeline.logs import console, human_bytes
from pipeline.planning.data_stages import DataPlan
from pipeline.planning.disk_use import DataSize
from pipeline.planning.rates import Rate

NAMES_WIDTH = 24
"""Columns of the names of figures."""


def print_heading(text: str) -> None:
    """Print the heading of a part of a plan."""
    console.print(f"\n{text}", style="bold")


def print_figure(name: str, value: str) -> None:
    """Print a figure under its heading."""
    console.print(f"  {name:{NAMES_WIDTH}} {value}")


def print_data_sizes(data: DataSize) -> None:
    """Print what documents, annotations, verdicts and tokens take on disk; only what there is."""
    print_figure(
        "documents",
        f"{human_bytes(data.document_bytes)} for {human_bytes(data.text_bytes)} of text in "
        f"{data.documents:,.0f} documents",
    )
    if data.annotation_bytes:
        of_documents = ""
        if data.document_bytes:
            ratio = data.annotation_bytes / data.document_bytes
            of_documents = f", {ratio:.2g} x the documents"
        print_figure("annotations", f"{human_bytes(data.annotation_bytes)}{of_documents}")
    if data.selection_bytes:
        print_figure("selection", human_bytes(data.selection_bytes))
    if data.tokens:
        existing = ""
        if data.tokens > data.text_tokens:
            existing = f"; {data.tokens - data.text_tokens:,.0f} exist already, and are not copied"
        made = f"{human_bytes(data.token_bytes)} for {data.text_tokens:,.0f} tokens"
        print_figure("tokens", made + existing)


def print_core_hours(hours: DataPlan) -> None:
    """Print the core-hours of each data stage that has something to do."""
    parts = [f"{value:.3g} {stage}" for stage, value in hours.of_stages().items()]
    print_figure("core-hours of data", ", ".join(parts) or "none: there is no text to read")


def print_rates(rates: Mapping[str, Rate]) -> None:
    """Print what the numbers of a plan rest on besides the run file."""
    print_heading("what these numbers rest on, besides the run file")
    for name, rate in rates.items():
        console.print(f"  {name:31} {rate.value:<10.4g} {rate.kind}: {rate.source}")
