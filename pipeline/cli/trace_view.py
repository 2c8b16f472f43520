"""What `pipeline trace` prints: the documents of a step, the steps that read a document or question.

All text from documents passes `visible`, so that none of it can control the terminal.
"""

from pathlib import Path

from pipeline.cli.trace_lines import cut_short, note_rest, print_origin, print_time
from pipeline.errors import UserError
from pipeline.harmless_text import visible
from pipeline.logs import console, print_json
from pipeline.sampling.trace import trace_document, trace_step
from pipeline.sampling.trace_records import (
    ComparedChecksum,
    TracedDocument,
    TracedDocuments,
    TracedRow,
    TracedStep,
)
from pipeline.sampling.traced_run import open_run, read_run

EXCERPT_CHARACTERS = 160
"""Longer excerpts are cut."""


def show_trace(
    run: Path,
    overrides: list[str],
    *,
    step: int | None,
    document: str | None,
    item: str | None,
    rank: int | None,
    row: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print the documents of a step, or the steps that read a document or a task's question.

    `limit`: largest number of rows, times or documents to print, 0 for all. Raises UserError unless
    exactly one of `step`, `document` and `item` is given, and for options of another one.
    """
    # The question.
    if sum(option is not None for option in (step, document, item)) != 1:
        raise UserError(
            "give one option: --step N lists the documents of a step, --document ID the steps that "
            "read a document, --item TASK/ID the documents that hold a task's question and the "
            "steps that read them"
        )
    if step is None and (rank is not None or row is not None):
        raise UserError("--rank and --row narrow down --step; they do not go with other options")

    # The answer. JSON is never cut.
    traced = read_run(open_run(run, overrides))
    if step is not None:
        most_rows = limit or None
        if as_json:
            most_rows = None
        traced_step = trace_step(traced, step, rank, row, most_rows)
        if as_json:
            print_json(traced_step)
        else:
            _print_step(traced_step, limit)
    elif item is not None:
        # Reading tasks' questions imports much that the other two questions do not need.
        from pipeline.cli.item_view import print_item
        from pipeline.evaluation.item_trace import trace_item

        traced_item = trace_item(traced, item)
        if as_json:
            print_json(traced_item)
        else:
            print_item(traced_item, limit)
    else:
        traced_documents = trace_document(traced, document or "")
        if as_json:
            print_json(traced_documents)
        else:
            _print_documents(traced_documents, limit)


def _print_step(step: TracedStep, limit: int) -> None:
    # The step, and whether the data are still those that it saw.
    state = "not done yet"
    if step["done"]:
        state = "done"
    start = "not started"
    if step["ranks"]:
        start = f"made by {step['ranks']} ranks"
    console.print(f"step {step['step']:,} ({state}, {start}): {step['row_count']:,} rows")
    if step["data"] is not None and step["data"]["same"] is not None:
        _print_checksum(step["data"])

    # Its rows, each with its documents.
    for row in step["rows"]:
        _print_row(row)
    note_rest(step["row_count"], limit, "rows")


def _print_checksum(data: ComparedChecksum) -> None:
    verdict = f"training logged {data['logged']}: other tokens stand here now"
    if data["same"]:
        verdict = "as training logged it"
    console.print(f"data checksum {data['checksum']}: {verdict}")


def _print_row(row: TracedRow) -> None:
    rank = ""
    if row["rank"] is not None:
        rank = f", rank {row['rank']}"
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
        print_origin(part)
        console.print(f"    {cut_short(visible(part['excerpt']), EXCERPT_CHARACTERS)}", style="dim")


def _print_documents(answer: TracedDocuments, limit: int) -> None:
    for document in answer["documents"]:
        console.print(document["id"], style="bold")
        print_origin(document)
        console.print(f"  {_times_in_words(document, answer['completed_steps'])}")
        for time in document["times"][: limit or None]:
            print_time(time)
        note_rest(len(document["times"]), limit, "times")


def _times_in_words(document: TracedDocument, completed_steps: int) -> str:
    """Return how often training has read a document, or why it never will."""
    times = document["times"]
    reasons = document.get("removed", [])
    if reasons:
        return f"removed by `pipeline select`: {', '.join(reasons)}"
    if document["held_out"]:
        return "held out for validation: never trained on"
    if not times:
        return "not seen in this run: its source has no weight, or the run ends before it comes"
    done = sum(time["done"] for time in times)
    return (
        f"{document['tokens']:,} tokens; {done:,} of {len(times):,} times up to step "
        f"{completed_steps:,}"
    )
