"""What `pipeline config` prints: resolved settings, every setting explained, or an example.

Reads a run file where one is named; writes nothing.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import typer

from pipeline.config.example import commented_example
from pipeline.config.field_descriptions import FieldDescription, describe_settings
from pipeline.config.run_file import dump, load
from pipeline.errors import ConfigError
from pipeline.logs import console, styled

WIDEST = 100
"""Maximum number of columns of text: longer lines are hard to read."""
INDENT = "    "


def print_settings(
    run_file: Path | None, overrides: Sequence[str], *, describe: bool, example: bool
) -> None:
    """Print the resolved settings as YAML, or what the options ask for.

    Raises BadParameter for a combination that makes no sense.
    """
    names = [str(name) for name in (run_file, *overrides) if name]
    if example and (describe or names):
        raise typer.BadParameter("takes no run file or other option", param_hint="--example")
    if example:
        show_example()
    elif describe:
        show_descriptions(names)
    elif run_file is None:
        raise typer.BadParameter(
            "give a run file, or use --describe or --example", param_hint="RUN.YAML"
        )
    else:
        show_config(run_file, overrides)


def show_config(run_file: Path, overrides: Sequence[str]) -> None:
    """Print the resolved settings as YAML."""
    console.print(dump(load(run_file, overrides, needs=())), end="")


def show_descriptions(names: Sequence[str]) -> None:
    """Explain the named sections and settings; without names, all of them.

    Raises ConfigError that lists every unknown name.
    """
    descriptions: list[FieldDescription] = []
    problems: list[str] = []
    for name in names or [""]:
        try:
            descriptions += describe_settings(name)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems, "--describe")
    width = min(console.width, WIDEST)
    for number, description in enumerate(descriptions):
        if number:
            console.print()
        _print_description(description, width)


def show_example() -> None:
    """Print a run file with comments."""
    console.print(commented_example(), end="")


def _print_description(description: FieldDescription, width: int) -> None:
    """Print the name of a setting, a line with its type and default, and its docstring."""
    style = "bold cyan"
    if description.is_section:
        style = "bold"
    console.print(styled(description.name, style))
    facts = f"{description.type_in_words}; {description.default}"
    console.print(styled(_wrapped(facts, width), "green"))
    for paragraph in description.meaning.split("\n\n"):
        if paragraph:
            console.print(_wrapped(paragraph, width))


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
