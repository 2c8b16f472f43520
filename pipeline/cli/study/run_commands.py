"""The command lines of `pipeline study run`, `status` and `report`, which take a study file.

Each command imports what it needs when it runs, so that `--help` stays fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command_groups import Overrides

StudyFileArgument = Annotated[Path, typer.Argument(metavar="STUDY.YAML", help="The study file.")]


def run(
    study_file: StudyFileArgument,
    overrides: Overrides = None,
    *,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print every run with its size and cost; train nothing."),
    ] = False,
    hardware: Annotated[
        str,
        typer.Option(
            help="With --dry-run: a name in presets/hardware, or a YAML file.", metavar="NAME|FILE"
        ),
    ] = "cpu",
    runs: Annotated[
        list[Path] | None,
        typer.Option("--from", help="With --dry-run: calibrate by this run.", metavar="RUN"),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Send a job array without a question.")
    ] = False,
) -> None:
    """Train the runs of a study that are not done; started again, it goes on."""
    from pipeline.cli.study.runs_view import RunOptions, run_study

    run_study(study_file, overrides or [], RunOptions(dry_run, hardware, runs or [], yes))


def status(study_file: StudyFileArgument, overrides: Overrides = None) -> None:
    """Print every run of a study: its state, its step, its loss."""
    from pipeline.cli.study.runs_view import show_status

    show_status(study_file, overrides or [])


def report(study_file: StudyFileArgument, overrides: Overrides = None) -> None:
    """Fit the runs that are there, and write figures, their numbers and the page of the study."""
    from pipeline.cli.study.report_view import report_study

    report_study(study_file, overrides or [])
