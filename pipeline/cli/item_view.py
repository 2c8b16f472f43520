"""What `pipeline trace --item` prints: the documents that hold a question, and when they are read.

All text from tasks and documents passes `visible`, so that none of it can control the terminal.
"""

from pipeline.cli.trace_lines import cut_short, note_rest, print_origin, print_time
from pipeline.corpus.ngram_index import FEWEST_WORDS, GRAM_WORDS
from pipeline.evaluation.item_trace import TracedHolder, TracedItem, TracedPassage
from pipeline.harmless_text import visible
from pipeline.logs import console, counted_noun

TEXT_CHARACTERS = 400
"""Longer questions and passages are cut."""


def print_item(item: TracedItem, limit: int) -> None:
    """Print a question and the documents that hold it; `limit`: the largest number, 0 for all."""
    # The question, and what it is for the checkpoints of the run.
    console.print(f"{visible(item['task'])}/{item['id']}", style="bold")
    console.print(f"  {cut_short(visible(item['text']), TEXT_CHARACTERS)}", style="dim")
    console.print(f"  {_reading_in_words(item)}")

    # The documents with its n-grams.
    for holder in item["documents"][: limit or None]:
        _print_holder(holder, limit)
    note_rest(len(item["documents"]), limit, "documents")


def _reading_in_words(item: TracedItem) -> str:
    """Return whether a run has read a question, or why that cannot be told."""
    words = counted_noun(item["words"], "word")
    if not item["is_searched"]:
        return f"{words}: too short to be searched for (fewer than {FEWEST_WORDS})"
    n = min(item["words"], GRAM_WORDS)
    holders = len(item["documents"])
    if not holders:
        return f"{words}; no document holds {n} of them in a row"
    found = f"{words}; {n} of them in a row are in {counted_noun(holders, 'document')}"
    step = item["first_step"]
    if step is None:
        return f"{found}; no step of this run reads them"
    if step > item["completed_steps"]:
        return f"{found}; first read at step {step:,}, which is not done yet"
    return f"{found}; first read at step {step:,}, so it is dirty in checkpoints from there on"


def _print_holder(holder: TracedHolder, limit: int) -> None:
    console.print(f"\n{holder['id']}", style="bold")
    print_origin(holder)
    for passage in holder["passages"]:
        _print_passage(passage, limit)
        if holder["held_out"]:
            console.print("  held out for validation: never trained on")
        elif not passage["times"]:
            console.print("  not read in this run")


def _print_passage(passage: TracedPassage, limit: int) -> None:
    place = f"bytes {passage['start']:,} to {passage['end']:,}"
    if passage["tokens"] is not None:
        first, end = passage["tokens"]
        place += f" (tokens {first:,} to {end:,})"
    console.print(f"  {counted_noun(passage['grams'], 'n-gram')} in {place}:")
    console.print(f"    {cut_short(visible(passage['text']), TEXT_CHARACTERS)}", style="dim")
    for time in passage["times"][: limit or None]:
        print_time(time)
    note_rest(len(passage["times"]), limit, "times")
