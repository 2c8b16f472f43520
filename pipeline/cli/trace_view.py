"""What `pipeline trace` prints. All that comes from documents passes `visible`, so that no text
acts on the terminal."""

import json
from pathlib import Path

from pipeline.errors import UserError
from pipeline.logs import console, note, print_json, visible
from pipeline.sampling.trace import trace_document, trace_step
from pipeline.sampling.trace_records import DocumentOrigin, TracedDocuments, TracedStep
from pipeline.sampling.traced_run import open_run, read_run

EXCERPT_CHARACTERS = 160
META_CHARACTERS = 160


def show_trace(
    run: Path,
    overrides: list[str],
    *,
    step: int | None,
    document: str | None,
    rank: int | None,
    row: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print the documents of a step, or the steps of a document. Raises UserError where not just
    one is asked for."""
    if (step is None) == (document is None):
        raise UserError(
            "say which: --step N lists the documents of a step, --document ID the steps that saw it"
        )
    if document is not None and (rank is not None or row is not None):
        raise UserError("--rank and --row narrow down --step; they do not go with --document")
    traced = read_run(open_run(run, overrides))
    if step is not None:
        traced_step = trace_step(traced, step, rank, row, None if as_json else limit or None)
        if as_json:
            print_json(traced_step)
        else:
            _print_step(traced_step, limit)
    else:
        traced_documents = trace_document(traced, document or "")
        if as_json:
            print_json(traced_documents)
        else:
            _print_document(traced_documents, limit)


def _print_step(found: TracedStep, limit: int) -> None:
    # The step, and whether the data are still those that it saw.
    rows = found["rows"]
    data = found["data"]
    made = f"made by {found['ranks']} ranks" if found["ranks"] else "not started"
    state = "done" if found["done"] else "not done yet"
    console.print(f"step {found['step']:,} ({state}, {made}): {found['row_count']:,} rows")
    if data and data["same"] is not None:
        console.print(
            f"data checksum {data['checksum']}: "
            + (
                "as training logged it"
                if data["same"]
                else f"training logged {data['logged']}: other tokens stand here now"
            )
        )
    # Its rows, each with its documents.
    for row in rows:
        rank = "" if row["rank"] is None else f", rank {row['rank']}"
        console.print(
            f"\nrow {row['row']}{rank}: sample {row['sample']:,}, {row['source']}, epoch "
            f"{row['epoch']}, "
            f"sequence {row['sequence']:,}",
            style="bold",
        )
        for part in row["documents"]:
            console.print(
                f"  {part['id']}  tokens {part['first']:,} to {part['end']:,} of {part['tokens']:,}"
            )
            _print_origin(part)
            console.print(f"    {_cut(visible(part['excerpt']), EXCERPT_CHARACTERS)}", style="dim")
    _say_what_is_left(found["row_count"], limit, "rows")


def _print_document(found: TracedDocuments, limit: int) -> None:
    for document in found["documents"]:
        console.print(document["id"], style="bold")
        _print_origin(document)
        times = document["times"]
        if document["held_out"]:
            console.print("  held out for validation: never trained on")
        elif not times:
            console.print(
                "  not seen in this run: its source has no weight, or the run ends before it comes"
            )
        else:
            done = sum(time["done"] for time in times)
            console.print(
                f"  {document['tokens']:,} tokens; {done:,} of {len(times):,} times up to step "
                f"{found['completed_steps']:,}"
            )
        for time in times[: limit or None]:
            spans = ", ".join(f"{first:,} to {end:,}" for first, end in time["spans"])
            state = "" if time["done"] else "  (not done yet)"
            console.print(
                f"  step {time['step']:,}, row {time['row']}, epoch {time['epoch']}: tokens "
                f"{spans}{state}",
            )
        _say_what_is_left(len(times), limit, "times")


def _print_origin(part: DocumentOrigin) -> None:
    if part["origin_file"] is not None:
        meta = json.dumps(part["meta"], ensure_ascii=False)
        origin = f"{part['origin_file']}, row {part['origin_row']}"
        console.print(f"    {visible(origin)}  {_cut(visible(meta), META_CHARACTERS)}")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _say_what_is_left(count: int, limit: int, what: str) -> None:
    if limit and count > limit:
        note(f"{count - limit:,} more {what}: --limit 0 shows all, --json too")
