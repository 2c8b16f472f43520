"""The command lines of `pipeline study ...`: families of runs and the laws fitted to them.

Each command imports what it needs when it runs, so that `--help` stays fast.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command_groups import Overrides, output_file
from pipeline.cli.command_line.looking_command import LookingCommand
from pipeline.cli.command_line.plain_help import CommandLine
from pipeline.cli.study import run_commands

study = CommandLine()
study.command("run")(run_commands.run)
study.command("status", cls=LookingCommand)(run_commands.status)
study.command("report", cls=LookingCommand)(run_commands.report)


class UnitOption(StrEnum):
    """The choices of `--unit`, as typer takes them."""

    NATS = "nats"
    BITS = "bits"
    BITS_PER_BYTE = "bits-per-byte"


@study.command("fit", cls=LookingCommand)
def fit_laws(
    points: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY.YAML|POINTS.CSV",
            help="A study, or anybody's table of trained models, a line each.",
        ),
    ],
    overrides: Overrides = None,
    *,
    # What the table holds, and which of it is used.
    unit: Annotated[
        UnitOption,
        typer.Option(help="What a loss counts; bits-per-byte reads the column bits_per_byte."),
    ] = UnitOption.NATS,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Leave out the run of this name.", metavar="NAME")
    ] = None,
    drop_highest: Annotated[
        int, typer.Option(min=0, help="Leave out the N highest losses.", metavar="N")
    ] = 0,
    # How it is fitted.
    resamples: Annotated[
        int, typer.Option(min=40, help="Resamples of the points, for the intervals.", metavar="N")
    ] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    # What is printed and written.
    at: Annotated[
        list[float] | None,
        typer.Option(help="Also print the optimum at this compute.", metavar="FLOPS"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File of the laws; default: fits.json beside the table.",
            metavar="FILE",
            callback=output_file,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit L(N, D) = E + A/N^alpha + B/D^beta to a table, with intervals; say what is not known."""
    from pipeline.cli.study.fit_view import FitQuestion, show_fits
    from pipeline.cli.study.opened_study import table_of_points

    question = FitQuestion(
        points=table_of_points(points, overrides or []),
        unit=unit.value,
        leave_out=leave_out or [],
        drop_highest=drop_highest,
        resamples=resamples,
        seed=seed,
        computes=at or [],
        output=output,
    )
    show_fits(question, as_json=json)


@study.command("compare", cls=LookingCommand)
def compare_laws(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C]...", help="Studies, or tables of points, of two procedures or more."
        ),
    ],
    *,
    # What is compared.
    unit: Annotated[
        UnitOption | None,
        typer.Option(
            help="What a loss counts; bits-per-byte where tokenizers differ.", show_default="nats"
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Compare the accuracy in this task instead of the loss; studies only.",
            metavar="NAME",
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --task: solved examples; default: the smallest number that all runs have.",
            metavar="K",
        ),
    ] = None,
    count: Annotated[
        str | None,
        typer.Option(
            help="Column that counts N; default: the first that all have.", metavar="NAME"
        ),
    ] = None,
    # How it is fitted.
    resamples: Annotated[
        int, typer.Option(min=40, help="Resamples of the points, for the intervals.", metavar="N")
    ] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell which procedure is better from which compute on, and where that is not known.

    Compared is the loss. With --task it is the accuracy in a task: size and tokens give bits per byte
    of the right answer, and those the accuracy.
    """
    from pipeline.cli.study.laws_compared import CompareQuestion, show_law_comparison
    from pipeline.cli.study.opened_study import table_of_points
    from pipeline.cli.study.tasks_compared import (
        TaskQuestion,
        refuse_options,
        show_task_comparison,
    )

    asked_unit = None if unit is None else unit.value
    refuse_options(tables, asked_unit, task, shots)
    if task is not None:
        compared = CompareQuestion(tables, "bits-per-byte", count, resamples, seed)
        show_task_comparison(TaskQuestion(compared, task, shots), as_json=json)
        return
    paths = [table_of_points(path) for path in tables]
    question = CompareQuestion(paths, asked_unit or "nats", count, resamples, seed)
    show_law_comparison(question, as_json=json)
