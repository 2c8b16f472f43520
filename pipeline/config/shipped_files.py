"""Files shipped with the package that a run file names: presets, mixtures, suites, rules, templates,
recipes.

`templates` (DeepSpeed) and `recipes` (tokenizers) are links to `ds_configs/` and `tokenizer/` at
the top of the repository; a wheel holds the files themselves.
"""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from pipeline.config.values import InWords, folder_of, located_by, resolve_location

PRESETS = Path(__file__).parent / "presets"
MIXTURES = PRESETS / "mixtures"
SUITES = PRESETS / "suites"
HARDWARE = PRESETS / "hardware"
SITES = PRESETS / "sites"
RULES = PRESETS / "rules"
TEMPLATES = Path(__file__).parent / "templates"
RECIPES = Path(__file__).parent / "recipes"

SUFFIXES = (".json", ".yaml")
NAME = re.compile(r"[A-Za-z0-9_-]+")
"""A name of a template or recipe; anything else, with a slash or a suffix, is a path."""


def shipped_files(folder: Path) -> dict[str, Path]:
    """Return the shipped files of a folder by the names that a run file uses for them."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}


def shipped_file(name: str, folder: Path, kind: str) -> Path:
    """Return the file named `name`. Raises ValueError with all names if there is no such file."""
    paths = shipped_files(folder)
    if name not in paths:
        raise ValueError(f"no such {kind}; there are {', '.join(paths)}")
    return paths[name]


def resolve_template(written: str | Path, base: Path) -> Path:
    """Return the path of a DeepSpeed template that a run file gives by name or by path."""
    return _resolve_name_or_path(written, base, TEMPLATES, "template")


def resolve_recipe(written: str | Path, base: Path) -> Path:
    """Return the path of a tokenizer recipe that a run file gives by name or by path."""
    return _resolve_name_or_path(written, base, RECIPES, "recipe")


def _resolve_name_or_path(written: str | Path, base: Path, folder: Path, kind: str) -> Path:
    """Return the shipped file for a name, and the resolved path for anything else.

    Raises ValueError for an unknown name, for a path that cannot be resolved, and for a name that
    is ambiguous because a file beside the run file has it, too.
    """
    if not NAME.fullmatch(str(written)):
        return resolve_location(written, base)
    try:
        shipped = shipped_file(str(written), folder, kind)
    except ValueError as error:
        raise ValueError(
            f"{error}; for a file of your own, write a path with a slash or a suffix"
        ) from None
    for own_name in (str(written), shipped.name):
        own = folder_of(written, base) / own_name
        if own.is_file() and not own.samefile(shipped):
            raise ValueError(
                f"is the name of a shipped {kind}, and {own} has that name, too; write "
                f"./{own_name} to use that file, or rename it to use the shipped {kind}"
            )
    return shipped


TemplateLocation = Annotated[Path, located_by(resolve_template), InWords("name or path")]
"""A DeepSpeed template: the name of a shipped one, or a path; absolute after loading."""

RecipeLocation = Annotated[Path, located_by(resolve_recipe), InWords("name or path")]
"""A tokenizer recipe: the name of a shipped one, or a path; absolute after loading."""


def _shipped_suite(name: str) -> str:
    """Return the name of a suite; an unknown one is a problem of the field, with all names."""
    try:
        shipped_file(name, SUITES, "suite")
    except ValueError as error:
        raise PydanticCustomError("suite", "{why}", {"why": str(error)}) from None
    return name


SuiteName = Annotated[str, AfterValidator(_shipped_suite), InWords("name")]
"""The name of a shipped suite of tasks."""
