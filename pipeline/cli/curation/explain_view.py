"""What `pipeline explain` prints: a document's verdict, the values against the rules, the copy that
stays.

All text from documents passes `visible`, so that none of it can control the terminal.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.selecting.explain import ComparedRule, ExplainedDocument, explain_document
from pipeline.errors import first_items
from pipeline.harmless_text import visible
from pipeline.logs import console, print_json, print_wide, styled
from pipeline.store.artifacts import stage_states
from pipeline.store.recorded_run import recorded_config
from pipeline.store.stages import STAGES

CONTEXT_CHARACTERS = 60
"""Characters that are shown before the first difference of two texts."""
RULE_COLUMNS = 100
"""Columns of the table of rules, at least."""
MOST_REASONS = 3
"""Reasons why `select` is stale that are named."""


def show_explanation(
    run: Path, overrides: Sequence[str], document: str, characters: int, as_json: bool
) -> None:
    """Print why documents are read or not.

    `document`: id, original id or url. `characters`: of texts that are shown. Raises as
    `explain_document`.
    """
    config = _config_of(run, overrides)
    explained = explain_document(config, document)
    outdated = _why_outdated(config)
    if as_json:
        print_json({"outdated": outdated, "documents": explained})
        return
    if outdated is not None:
        console.print(styled(visible(outdated), "yellow"))
    for number, each in enumerate(explained):
        if number:
            console.print()
        _print_document(each, characters)


def _config_of(run: Path, overrides: Sequence[str]) -> RunConfig:
    """Return the config of a run's folder, or of a run file, which may describe a corpus alone."""
    if run.is_dir():
        return recorded_config(run, overrides)
    return load(run, overrides, needs=())


def _why_outdated(config: RunConfig) -> str | None:
    """Return a line where the verdicts on disk are not those of the run file; None where they are."""
    state = stage_states({stage.name: stage for stage in STAGES}, config)["select"]
    if state.kind == "done":
        return None
    why = "select has not finished"
    if state.kind == "stale":
        why = f"select is stale ({'; '.join(first_items(state.reasons, MOST_REASONS, 'reasons'))})"
    return (
        f"{why}: the verdicts below are of earlier settings, the rules and values beside them those of "
        "the run file now. `pipeline select` judges anew."
    )


def _print_document(document: ExplainedDocument, characters: int) -> None:
    # The verdict.
    state = "kept"
    if not document["kept"]:
        state = f"removed: {', '.join(document['reasons'])}"
    console.print(styled(visible(document["id"]), "bold"), f"({document['split']})", state)
    for cut in document["cuts"]:
        replaced = document["text"][cut["start"] : cut["end"]]
        console.print(
            f"  characters {cut['start']:,} to {cut['end']:,} ({cut['reason']}): "
            f"{visible(replaced[:CONTEXT_CHARACTERS])!r} -> {cut['replacement']!r}"
        )

    # What it was judged by.
    if document["rules"]:
        _print_rules(document["rules"])
    for question in document["questions"]:
        console.print(
            f"  holds {question['task']}/{question['item']} ({question['kind']}), characters "
            f"{question['start']:,} to {question['end']:,}"
        )

    # The copies, and the texts beside each other.
    for loss in document["lost_to"]:
        similarity = ""
        if loss["jaccard"] is not None:
            similarity = f", Jaccard {loss['jaccard']:.3f}"
        other = "stays"
        if not loss["kept"]:
            other = f"is removed itself: {', '.join(loss['reasons'])}"
        console.print(f"  lost to {loss['id']}{similarity}, which {other}")
    if document["lost_to"]:
        last = document["lost_to"][-1]
        _print_beside((document["id"], document["text"]), (last["id"], last["text"]), characters)
    else:
        console.print(styled(visible(document["text"][:characters], "↵\n")))


def _print_rules(rules: Sequence[ComparedRule]) -> None:
    """Print each rule with the document's value; those that it does not pass come first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("  rule")
    table.add_column("asks for")
    table.add_column("value", justify="right")
    table.add_column("")
    for rule in sorted(rules, key=lambda each: each["passes"]):
        value = rule["value"]
        shown = "undefined"
        if isinstance(value, str):
            shown = visible(value)
        elif value is not None:
            shown = f"{value:.6g}"
        state = "passes" if rule["passes"] else "fails"
        table.add_row(f"  {rule['name']}", rule["comparison"], shown, state)
    print_wide(table, RULE_COLUMNS)


def _print_beside(own: tuple[str, str], other: tuple[str, str], characters: int) -> None:
    """Print two texts, each with its name, beside each other from their first difference."""
    first = _first_difference(own[1], other[1])
    start = max(0, first - CONTEXT_CHARACTERS)
    table = Table(expand=True)
    table.add_column(visible(own[0]), ratio=1)
    table.add_column(visible(other[0]), ratio=1)
    shown = [visible(text[start : start + characters], "↵\n") for text in (own[1], other[1])]
    table.add_row(*map(styled, shown))
    if first == len(own[1]) == len(other[1]):
        console.print("  the texts are the same")
    else:
        console.print(f"  they differ from character {first:,} on; shown from {start:,}")
    console.print(table)


def _first_difference(own: str, other: str) -> int:
    """Return the place of the first character that differs; the shorter length if none does."""
    shorter = min(len(own), len(other))
    return next((place for place in range(shorter) if own[place] != other[place]), shorter)
