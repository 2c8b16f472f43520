"""What `pipeline config` prints to begin with: every setting explained, and an example of a run
file."""

import textwrap
from collections.abc import Sequence

from pipeline.config.example import commented_example
from pipeline.config.field_descriptions import FieldDescription, describe_settings
from pipeline.errors import ConfigError
from pipeline.logs import console, styled

WIDEST = 100
"""Columns of text at most: longer lines are hard to read."""
INDENT = "    "


def show_descriptions(names: Sequence[str]) -> None:
    """Print the settings of these names with all below them; without names, all settings.

    Raises ConfigError for all unknown names.
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
        _show(description, width)


def show_example() -> None:
    """Print a run file with comments, ready to be kept in a file."""
    console.print(commented_example(), end="")


def _show(description: FieldDescription, width: int) -> None:
    """Print a setting: its name, a line of facts, its docstring."""
    console.print(styled(description.name, "bold" if description.is_section else "bold cyan"))
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
