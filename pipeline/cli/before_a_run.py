"""Commands that come before a run: what it costs, whether it can start, sending it off.

Each imports what it needs when it runs, so that `--help` stays fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command_groups import Overrides, RunFile, limited_hours, output_file
from pipeline.store.stages import STAGES


def plan(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="RUN.YAML", help="The run file.")
    ] = None,
    overrides: Overrides = None,
    *,
    # What the run is planned on.
    hardware: Annotated[
        str,
        typer.Option(help="A name in presets/hardware, or a YAML file.", metavar="NAME|FILE"),
    ] = "h100-sxm",
    nodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Nodes; default: what launch.ranks needs, or of one node what divides the batch.",
            metavar="N",
        ),
    ] = None,
    hours_per_job: Annotated[
        float, typer.Option(help="Time limit of a job.", metavar="H", callback=limited_hours)
    ] = 24.0,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="Calibrate by this run or throughput study; several tell more.",
            metavar="RUN",
        ),
    ] = None,
    law: Annotated[
        Path | None,
        typer.Option(
            help="Predict the loss by this fits.json of `study fit`; default: Chinchilla's runs.",
            metavar="FILE",
        ),
    ] = None,
    # What is printed.
    published: Annotated[
        bool,
        typer.Option("--published", help="List published runs, the planned one among them."),
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            help="With --published: write an HTML page with the figure.",
            metavar="FILE",
            callback=output_file,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a run costs before it starts: memory, time, GPU-hours, jobs, disk; check it all."""
    from pipeline.cli.plan_view import PlanQuestion, show_plan, show_published_runs

    question = PlanQuestion(
        run_file, overrides or [], hardware, nodes, hours_per_job, runs or [], law
    )
    if published:
        show_published_runs(STAGES, question, as_json=json, page=page)
    else:
        show_plan(STAGES, question, as_json=json, page=page)


def doctor(
    run_file: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN.YAML]", help="The run file; without it, machines only."),
    ] = None,
    overrides: Overrides = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at each node: versions, devices, network, folders, limits; what would stop the run."""
    from pipeline.cli.doctor_view import show_examination

    show_examination(run_file, overrides or [], json)


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
            help="Hours that the training takes; default: as planned.",
            metavar="H",
            callback=limited_hours,
        ),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Calibrate the plan by this run.", metavar="RUN"),
    ] = None,
    # Whether it is sent.
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write and show the scripts, send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send without a question.")] = False,
) -> None:
    """Send the jobs that the run still needs to Slurm: data, train, evaluate, one after another."""
    from pipeline.cli import submit_view

    options = submit_view.SubmitOptions(
        site, nodes, data_nodes, time, hours, runs or [], dry_run, yes
    )
    submit_view.submit(STAGES, run_file, overrides or [], options)


BEFORE_A_RUN = (plan, doctor, submit)
"""Commands in the order in which `pipeline --help` lists them."""
