"""The command line of `pipeline submit`. Imports what it needs when it runs."""

from typing import Annotated

import typer

from pipeline.cli.command_groups import Overrides, RunFile


def submit(
    run_file: RunFile,
    overrides: Overrides = None,
    *,
    # Where, and how much of it.
    site: Annotated[
        str | None,
        typer.Option(
            help="The cluster: a shipped site, or a YAML file.",
            metavar="NAME|FILE",
            envvar="PIPELINE_SITE",
        ),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Nodes of the training.", metavar="N")
    ] = None,
    data_nodes: Annotated[
        int, typer.Option(min=1, help="Nodes of the job that prepares the data.", metavar="N")
    ] = 1,
    time: Annotated[
        str | None,
        typer.Option(
            help="Time limit of a train job; default: the site's longest.", metavar="HH:MM:SS"
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            min=0, help="Hours that the training takes, for the number of jobs.", metavar="H"
        ),
    ] = None,
    # Whether it is sent.
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write and show the scripts, send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send without a question.")] = False,
) -> None:
    """Send the jobs that the run still needs to Slurm: data, train, evaluate, one after another."""
    from pipeline.cli import submit_view
    from pipeline.store.stages import STAGES

    options = submit_view.SubmitOptions(site, nodes, data_nodes, time, hours, dry_run, yes)
    submit_view.submit(STAGES, run_file, overrides or [], options)
