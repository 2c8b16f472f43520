"""Lines that all forms of `pipeline trace` print: origins of documents, times they were read.

All text from documents passes `visible`, so that none of it can control the terminal.
"""

import json

from pipeline.harmless_text import visible
from pipeline.logs import console, note
from pipeline.sampling.trace_records import DocumentOrigin, TimeSeen

META_CHARACTERS = 160
"""Longer meta is cut."""


def print_time(time: TimeSeen) -> None:
    """Print the step, row and tokens of one time that a document is read."""
    spans = ", ".join(f"{first:,} to {end:,}" for first, end in time["spans"])
    state = "  (not done yet)"
    if time["done"]:
        state = ""
    console.print(
        f"  step {time['step']:,}, row {time['row']}, epoch {time['epoch']}: tokens {spans}{state}"
    )


def print_origin(part: DocumentOrigin) -> None:
    """Print the file and row that a document came from, and its meta."""
    if part["origin_file"] is not None:
        meta = json.dumps(part["meta"], ensure_ascii=False)
        origin = f"{part['origin_file']}, row {part['origin_row']}"
        console.print(f"    {visible(origin)}  {cut_short(visible(meta), META_CHARACTERS)}")


def cut_short(text: str, most_characters: int) -> str:
    """Return a text, cut to a number of characters with `…` at its end."""
    if len(text) <= most_characters:
        return text
    return text[: most_characters - 1] + "…"


def note_rest(count: int, limit: int, what: str) -> None:
    """Print how many rows, times or documents the limit leaves out."""
    if 0 < limit < count:
        note(f"{count - limit:,} more {what}: --limit 0 or --json shows all")
