"""The command lines of `pipeline checkpoints ...`.

Each command imports what it needs when it runs, so that `--help` stays fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command_groups import output_folder
from pipeline.cli.command_line.looking_command import LookingCommand
from pipeline.cli.command_line.plain_help import CommandLine

NewFolder = Annotated[
    Path, typer.Option(help="Folder to write; must not exist.", callback=output_folder)
]

checkpoints = CommandLine()
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its run file.")]
Step = Annotated[int | None, typer.Option(help="Only the checkpoint of this step.", metavar="N")]


@checkpoints.command("list", cls=LookingCommand)
def list_checkpoints(
    run: Run, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List all checkpoints: tokens, ZeRO stage, ranks, size, time; and broken folders."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.list_checkpoints(_run_dir(run), json)


@checkpoints.command("verify")
def verify_checkpoints(run: Run, step: Step = None) -> None:
    """Read every byte and compare it with the checksums in the manifests."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.verify_checkpoints(_run_dir(run), step)


@checkpoints.command("prune")
def prune_checkpoints(
    run: Run,
    keep_last: Annotated[int, typer.Option(min=1, help="Number of newest checkpoints to keep.")],
    keep_every_steps: Annotated[
        int | None, typer.Option(min=1, help="Also keep every N-th step.", metavar="N")
    ] = None,
    keep_log_spaced: Annotated[
        bool, typer.Option("--keep-log-spaced", help="Also keep steps 1, 2, 4, 8, ...")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be deleted.")
    ] = False,
) -> None:
    """Verify the newest checkpoint, then delete those that the options do not keep."""
    from pipeline.cli import checkpoint_commands
    from pipeline.config.run_sections import Checkpoint

    kept = Checkpoint(
        keep_last=keep_last, keep_every_steps=keep_every_steps, keep_log_spaced=keep_log_spaced
    )
    checkpoint_commands.prune_checkpoints(_run_dir(run), kept, dry_run)


@checkpoints.command("convert")
def convert_checkpoint(
    run: Run,
    output: NewFolder,
    step: Step = None,
) -> None:
    """Write a checkpoint's fp32 weights and optimizer moments, whole and by name, as safetensors."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.convert_checkpoint(_run_dir(run), step, output)


@checkpoints.command("merge")
def merge_checkpoints(
    run: Run,
    output: NewFolder,
    last: Annotated[
        int | None, typer.Option(min=1, help="Average the N newest checkpoints.", metavar="N")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Average the checkpoints of these steps.", metavar="STEP,...")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="uniform, or the decay to emulate: linear, minus-sqrt.")
    ] = "uniform",
) -> None:
    """Average checkpoints, and write the result as a transformers folder."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.merge_checkpoints(run, output, last, steps, weights)


def _run_dir(run: Path) -> Path:
    """Return the folder of a run, which is given by that folder or by its run file."""
    if run.is_dir():
        return run
    from pipeline.config.run_file import load

    return load(run).paths.run_dir
