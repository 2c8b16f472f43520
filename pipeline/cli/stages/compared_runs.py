"""`pipeline report --compare`: reads runs, writes one page about them, prints what can be said."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.logs import console, note
from pipeline.reporting.many_runs.compared_run import named_apart, read_compared_run
from pipeline.reporting.many_runs.runs_page import runs_page, sentences_of
from pipeline.store.files import refuse_unwritable, write_atomic


def compare_runs(typed: Sequence[str], page: Path) -> None:
    """Write one page about several runs, each given by its folder or run file.

    Raises UserError for a single run, one that is named twice, and settings; DataError where there is no
    run, and where nothing of the runs can be compared.
    """
    # Which runs there are.
    changes = [name for name in typed if "=" in name and not Path(name).exists()]
    if changes:
        raise UserError(
            f"{changes[0]}: --compare takes runs, each with the settings that it recorded; leave it out"
        )
    if len(typed) < 2:
        raise UserError("--compare: give two runs or more, each by its folder or run file")
    refuse_unwritable(page, "--output", is_folder=False)
    runs = [read_compared_run(Path(name)) for name in typed]
    folders = [run.path.resolve() for run in runs]
    for number, name in enumerate(typed):
        if folders[number] in folders[:number]:
            raise UserError(f"{name}: names a run that is already there; name each run once")

    # Their page.
    names = named_apart(runs, typed)
    write_atomic(page, runs_page(runs, names))
    for sentence in sentences_of(runs, names):
        console.print(sentence, soft_wrap=True, highlight=False)
    note(f"wrote {page}")
