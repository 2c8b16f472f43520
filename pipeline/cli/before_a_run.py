"""Commands that come before a run: what it costs, and whether it can start.

Each imports what it needs when it runs, so that `--help` stays fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command_groups import Overrides
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
        typer.Option(min=1, help="Nodes; default: what launch.ranks needs, or one.", metavar="N"),
    ] = None,
    hours_per_job: Annotated[
        float, typer.Option(min=0.01, help="Time limit of a job.", metavar="H")
    ] = 24.0,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Calibrate by this run; several tell more.", metavar="RUN"),
    ] = None,
    # What is printed.
    published: Annotated[
        bool,
        typer.Option("--published", help="List published runs, the planned one among them."),
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(help="With --published: write an HTML page with the figure.", metavar="FILE"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a run costs before it starts: memory, time, GPU-hours, jobs, disk; check it all."""
    from pipeline.cli.plan_view import PlanQuestion, show_plan, show_published_runs

    question = PlanQuestion(run_file, overrides or [], hardware, nodes, hours_per_job, runs or [])
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


BEFORE_A_RUN = (plan, doctor)
"""Commands in the order in which `pipeline --help` lists them."""
