"""The lines of `pipeline status` on where the run's time went."""

from pathlib import Path

from pipeline.logs import console, human_seconds, styled
from pipeline.reporting.account_words import account_headline, shown_parts
from pipeline.reporting.run_account import account_of_run

LEAST_SHARE = 0.01
"""Share of the wall time below which a part has no line."""


def print_account(run_dir: Path) -> None:
    """Print a line on the whole run and one for each part; nothing before its ranks have started.

    Short parts share the last line.
    """
    from rich.table import Table

    account = account_of_run(run_dir)
    if account is None:
        return
    console.print(styled(f"\ntrain: {account_headline(account)}"))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))
    shown = shown_parts(account, LEAST_SHARE)
    for part in shown:
        table.add_row(
            f"  {part.name}", f"{part.share:.1%}", human_seconds(part.seconds), part.detail
        )
    # What is too short for a line of its own is in the last one, so that the shares add up to 1.
    others = [part for part in shown_parts(account) if part.share < LEAST_SHARE]
    if others:
        share = sum(part.share for part in others)
        seconds = sum(part.seconds for part in others)
        names = ", ".join(part.name for part in others)
        table.add_row("  others", f"{share:.1%}", human_seconds(seconds), names)
    table.columns[1].justify = "right"
    console.print(table)
