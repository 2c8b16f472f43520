"""Commands of two words that are imported and built only when one of them is asked for.

`pipeline --help` needs their names and one line of each; to build all their options takes longer
than the rest of it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer.main
from typer.core import TyperGroup

from pipeline.cli.command_line.plain_help import CommandLine, PlainCommand, PlainGroup

if TYPE_CHECKING:  # the types that typer's own methods take, which it exports under no name
    from typer._click import Command, Context


@dataclass(frozen=True)
class LaterGroup:
    """The first of two words, such as `tasks`, and where the commands after it are declared."""

    name: str
    help: str
    commands: str
    """`module:name` of a CommandLine."""

    def build(self) -> TyperGroup:
        """Return the group with all its commands."""
        module, _, name = self.commands.partition(":")
        command_line: CommandLine = getattr(importlib.import_module(module), name)
        group = typer.main.get_group(command_line)
        group.name = self.name
        group.help = self.help
        return group


GROUPS = (
    LaterGroup(
        "checkpoints",
        "List, verify, prune or convert the checkpoints of a run.",
        "pipeline.cli.command_line.checkpoint_group:checkpoints",
    ),
    LaterGroup(
        "tasks",
        "Fetch, list or verify the questions of public few-shot tasks.",
        "pipeline.cli.command_line.task_group:tasks",
    ),
    LaterGroup(
        "study",
        "Families of runs: trained, laws of the loss fitted to them and compared, with intervals.",
        "pipeline.cli.study.study_group:study",
    ),
    LaterGroup(
        "benchmark",
        "Measure speed and memory on this machine.",
        "pipeline.cli.command_groups:benchmarks",
    ),
)
"""All groups, in the order of the help."""
AROUND_THEM = "Around them"
"""Section of the help for groups, and for commands that are no stages."""


class CommandsAndGroups(PlainGroup):
    """Commands of one word, built at once, and GROUPS, of which only the one asked for is built."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for group in GROUPS:
            listed = PlainCommand(group.name, help=group.help, rich_help_panel=AROUND_THEM)
            self.add_command(listed)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Return the command or group of this name; None where there is none."""
        for group in GROUPS:
            if group.name == cmd_name:
                return group.build()
        return super().get_command(ctx, cmd_name)
