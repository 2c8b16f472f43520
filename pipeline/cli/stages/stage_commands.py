"""How each stage becomes a command: its arguments, and the options that some stages have.

Each command imports what it needs when it runs, so that `--help` stays fast.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command_groups import Overrides, RunFile, output_file
from pipeline.cli.command_line.looking_command import LookingCommand
from pipeline.cli.command_line.plain_help import PlainCommand
from pipeline.errors import UserError
from pipeline.store.stages import STAGES
from pipeline.store.table.stage_row import Stage


def stage_command(stage: Stage) -> Callable[..., None]:
    """Return the function of a stage's command, with its arguments and options."""
    return WITH_OPTIONS.get(stage.name, _plain_command)(stage)


def command_class(stage: Stage) -> type[PlainCommand]:
    """Return the class of a stage's command: of all stages only the report just looks."""
    if stage.name == "report":
        return LookingCommand
    return PlainCommand


def _plain_command(stage: Stage) -> Callable[..., None]:
    def command(
        run_file: RunFile,
        overrides: Overrides = None,
        if_described: Annotated[
            bool,
            typer.Option(
                "--if-described",
                help="Do nothing where the run file lacks the sections of this stage.",
            ),
        ] = False,
    ) -> None:
        from pipeline.cli import commands

        commands.run_one(STAGES, stage, run_file, overrides or [], if_described)

    return command


def _evaluate_command(stage: Stage) -> Callable[..., None]:
    def command(
        run_file: RunFile,
        overrides: Overrides = None,
        watch: Annotated[
            bool,
            typer.Option(
                "--watch",
                help="Score each new checkpoint while the run trains elsewhere; ends with the run.",
            ),
        ] = False,
    ) -> None:
        from pipeline.cli import commands

        if watch:
            commands.watch_run(STAGES, run_file, overrides or [])
        else:
            commands.run_one(STAGES, stage, run_file, overrides or [])

    return command


def _export_command(stage: Stage) -> Callable[..., None]:
    def command(
        run_file: RunFile,
        overrides: Overrides = None,
        steps: Annotated[
            str | None,
            typer.Option(
                help="Write the folders of these checkpoints instead.", metavar="STEP,..."
            ),
        ] = None,
    ) -> None:
        from pipeline.cli import commands

        if steps is not None:
            commands.export_chosen_steps(run_file, overrides or [], steps)
        else:
            commands.run_one(STAGES, stage, run_file, overrides or [])

    return command


def _report_command(stage: Stage) -> Callable[..., None]:
    def command(
        run_file: Annotated[
            Path, typer.Argument(metavar="RUN.YAML", help="The run file; with --compare, a run.")
        ],
        overrides: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[SECTION.FIELD=VALUE]...",
                help="Settings to change; with --compare, further runs: folders or run files.",
            ),
        ] = None,
        compare: Annotated[
            bool, typer.Option("--compare", help="Put several runs on one page instead.")
        ] = False,
        output: Annotated[
            Path | None,
            typer.Option(
                help="Page of --compare; default: comparison.html.",
                metavar="FILE",
                callback=output_file,
            ),
        ] = None,
    ) -> None:
        # One run, or several on one page.
        if compare:
            from pipeline.cli.stages.compared_runs import compare_runs

            compare_runs([str(run_file), *(overrides or [])], output or Path("comparison.html"))
        elif output is not None:
            raise UserError(
                "--output names the page of --compare; without it the report lies in the run folder"
            )
        else:
            from pipeline.cli import commands

            commands.run_one(STAGES, stage, run_file, overrides or [])

    return command


WITH_OPTIONS = {
    "evaluate": _evaluate_command,
    "export": _export_command,
    "report": _report_command,
}
"""Stage -> what makes its command, where it has options of its own."""
