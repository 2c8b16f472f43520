"""The help of commands as plain text: typer's own needs rich, whose import takes longer than help.

`CommandLine` is a typer application with this help. Text is wrapped at the width of the terminal,
at most WIDEST columns; it has no colours, so it is the same in a pipe and with NO_COLOR.
"""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

if TYPE_CHECKING:  # the types that typer's own methods take, which it exports under no name
    from typer._click import Context, HelpFormatter

WIDEST = 100
"""Maximum number of columns of help: longer lines are hard to read."""
WIDEST_NAME = 26
"""Maximum number of columns of a name with its text beside it; a longer one stands above its text."""
LEAST_TEXT = 30
"""Minimum number of columns beside the names; with fewer, texts stand below the names."""
OTHER_COMMANDS = "Commands"
"""Heading of the commands that name no section."""


class PlainCommand(TyperCommand):
    """A command whose help is plain text."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Return the words after the command's name, without typer's brackets around metavars."""
        return ["[OPTIONS]", *_argument_names(self)]

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write usage, text, arguments and options."""
        width = help_width()
        blocks = [
            usage(ctx.command_path, self.collect_usage_pieces(ctx), width),
            paragraphs(self.help or "", width),
            *_parameter_sections(self, ctx, width),
        ]
        formatter.write("\n\n".join(blocks) + "\n")


class PlainGroup(TyperGroup):
    """Commands whose list is plain text, in the sections that they name, in their order."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the words after the group's name; without any, print the help and exit with 2."""
        if not args:
            typer.echo(self.get_help(ctx))
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        """Return the option `--help`, which is False unless it is given."""
        option = super().get_help_option(ctx)
        if option is not None:
            # Typer's default is None, and to read that as a bool it would import pydantic.
            option.default = False
        return option

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write usage, text, the sections of commands, and options."""
        width = help_width()
        blocks = [
            usage(ctx.command_path, self.collect_usage_pieces(ctx), width),
            paragraphs(self.help or "", width),
        ]
        rows_of: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None) or OTHER_COMMANDS
            first_paragraph = inspect.cleandoc(command.help or "").partition("\n\n")[0]
            text = command.short_help or " ".join(first_paragraph.split())
            rows_of.setdefault(heading, []).append((name, text))
        column = text_column(self.commands, width)
        blocks += [section(heading, rows, width, column) for heading, rows in rows_of.items()]
        blocks += _parameter_sections(self, ctx, width)
        formatter.write("\n\n".join(blocks) + "\n")


class CommandLine(typer.Typer):
    """A typer application of several commands whose help is plain text."""

    def __init__(self, group: type[PlainGroup] = PlainGroup, **settings: Any) -> None:
        super().__init__(
            cls=group,
            add_completion=False,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            **settings,
        )

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **settings: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return the decorator that makes a function a command; typer's own, with plain help."""
        return super().command(name, cls=cls or PlainCommand, **settings)


def help_width() -> int:
    """Return the number of columns of help: those of the terminal, at most WIDEST."""
    return max(10, min(shutil.get_terminal_size().columns, WIDEST))


def usage(command: str, words: Sequence[str], width: int) -> str:
    """Return the line `Usage: command words`, wrapped at spaces between words."""
    start = f"Usage: {command} "
    indent = " " * len(start)
    if len(start) > width // 2:
        indent = " " * 4
    # A word with spaces in it, such as "A B [C]...", is not broken.
    lines = [start.rstrip()]
    for word in words:
        if len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return "\n".join(lines)


def paragraphs(text: str, width: int) -> str:
    """Return text with each of its paragraphs wrapped; an empty line stands between two."""
    parts = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join("\n".join(_wrapped(" ".join(part.split()), width)) for part in parts)


def text_column(names: Iterable[str], width: int) -> int:
    """Return the column at which the texts beside or below the names begin."""
    column = 2 + max(min(len(name), WIDEST_NAME) for name in names) + 2
    if width - column < LEAST_TEXT:
        return 6
    return column


def section(heading: str, rows: Sequence[tuple[str, str]], width: int, column: int) -> str:
    """Return a heading and the rows (name, text) below it; each line of a text is wrapped apart."""
    lines = [f"{heading}:"]
    for name, text in rows:
        body = [piece for line in text.splitlines() for piece in _wrapped(line, width - column)]
        first = f"  {name}"
        if len(first) + 2 <= column and body:
            lines.append(first.ljust(column) + body.pop(0))
        else:
            lines.append(first)
        lines += [" " * column + piece for piece in body]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 10), break_long_words=False, break_on_hyphens=False)


def _argument_names(command: TyperCommand | TyperGroup) -> Iterable[str]:
    """Yield the arguments of a command as the usage line shows them; optional ones in brackets."""
    for param in command.params:
        if isinstance(param, TyperArgument):
            name = param.metavar or param.name.upper()
            if not param.required and not name.startswith("["):
                name = f"[{name}]"
            yield name


def _parameter_sections(command: TyperCommand | TyperGroup, ctx: Context, width: int) -> list[str]:
    """Return the sections of arguments and of options, each where the command has some."""
    arguments: list[tuple[str, str]] = []
    options: list[tuple[str, str]] = []
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        name, text = record
        if isinstance(param, TyperArgument):
            # The metavar says more than the type behind it, such as `<list[str]>`.
            arguments.append((param.metavar or name, text))
        else:
            options.append((name, text))
    found = {"Arguments": arguments, "Options": options}
    return [
        section(heading, rows, width, text_column((name for name, _ in rows), width))
        for heading, rows in found.items()
        if rows
    ]
