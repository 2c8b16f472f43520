"""The example of a run file: `example.yaml` with the docstring of each setting as a comment."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.field_descriptions import FieldDescription, describe_settings
from pipeline.config.run_config import RunConfig

EXAMPLE = Path(__file__).with_name("example.yaml")
COLUMNS = 80
"""Width of the comments."""
SECTION = re.compile(r"(\w+):")
FIELD = re.compile(r"  (\w+):")


def commented_example() -> str:
    """Return a run file that loads from any folder, with a comment above each setting.

    Comments of `example.yaml` are kept; one above a section follows the section's docstring.
    """
    parts = EXAMPLE.read_text("utf-8").strip().split("\n\n")
    blocks = [parts[0], *map(_explained, parts[1:])]
    others = [name for name in RunConfig.model_fields if f"\n{name}:" not in "\n\n".join(parts)]
    blocks.append(
        "# Further sections (pipeline config --describe NAME):\n" + "\n".join(map(_named, others))
    )
    return "\n\n".join(blocks) + "\n"


def _explained(part: str) -> str:
    """Return one section of the example with its comments."""
    # The docstring of the section comes first, then the comment in `example.yaml`.
    lines = part.splitlines()
    head = next(number for number, line in enumerate(lines) if SECTION.match(line))
    name = lines[head].partition(":")[0]
    section, *fields = describe_settings(name)
    explained = [_comment(section.meaning), *lines[:head], lines[head]]
    # Above each setting come its docstring, its type and its default.
    by_name = {field.name: field for field in fields}
    for line in lines[head + 1 :]:
        match = FIELD.match(line)
        if match is not None and f"{name}.{match[1]}" in by_name:
            field = by_name[f"{name}.{match[1]}"]
            explained.append(_comment(field.meaning.partition("\n\n")[0], "  "))
            explained.append(_comment(f"[{field.type_in_words}; {field.default}]", "  "))
        explained.append(line)
    # Settings that the example leaves at their defaults are named, so that they can be looked up.
    more = _unmentioned(part, name, fields)
    if more:
        listed = f"More (pipeline config --describe {name}): {', '.join(more)}."
        explained.append(_comment(listed, "  "))
    return "\n".join(explained)


def _named(section: str) -> str:
    """Return a comment with the name of a section and the first sentence about it."""
    meaning = describe_settings(section)[0].meaning
    sentence = re.split(r"(?<=\.)\s", " ".join(meaning.split()), maxsplit=1)[0]
    return textwrap.fill(
        f"{section}: {sentence}", COLUMNS, initial_indent="#   ", subsequent_indent="#     "
    )


def _unmentioned(part: str, section: str, fields: Sequence[FieldDescription]) -> list[str]:
    """Return the names of the fields of a section that its example does not set."""
    own = [field.name.removeprefix(f"{section}.").removeprefix("NAME.") for field in fields]
    return [name for name in own if "." not in name and f"{name}:" not in part]


def _comment(text: str, indent: str = "") -> str:
    start = f"{indent}# "
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )
