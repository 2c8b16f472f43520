"""Files that come with the package and that a run file names: presets, mixtures, DeepSpeed
templates, tokenizer recipes.

`templates` and `recipes` are links to `ds_configs/` and `tokenizer/` at the top of the repository;
a wheel holds the files themselves.
"""

import re
from pathlib import Path
from typing import Annotated

from pipeline.config.values import InWords, folder_of, located_by, resolve_location

PRESETS = Path(__file__).parent / "presets"
MIXTURES = PRESETS / "mixtures"
TEMPLATES = Path(__file__).parent / "templates"
RECIPES = Path(__file__).parent / "recipes"

SUFFIXES = (".json", ".yaml")
NAME = re.compile(r"[A-Za-z0-9_-]+")
"""How a template or a recipe is named; anything else, with a slash or a suffix, is a path."""


def shipped_files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by the names that a run file uses."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}


def shipped_file(name: str, folder: Path, kind: str) -> Path:
    """Return the file of that name; raises ValueError that lists the names for an unknown one."""
    paths = shipped_files(folder)
    if name not in paths:
        raise ValueError(f"no such {kind}; there are {', '.join(paths)}")
    return paths[name]


def resolve_template(written: str | Path, base: Path) -> Path:
    """Return the path of a DeepSpeed template, given by its name or by a path."""
    return _resolve_name_or_path(written, base, TEMPLATES, "template")


def resolve_recipe(written: str | Path, base: Path) -> Path:
    """Return the path of a tokenizer recipe, given by its name or by a path."""
    return _resolve_name_or_path(written, base, RECIPES, "recipe")


def _resolve_name_or_path(written: str | Path, base: Path, folder: Path, kind: str) -> Path:
    """Return a shipped file for a name, else the path resolved from `base`.

    Raises ValueError for an unknown name, for a path that cannot be resolved, and for a name that
    a file beside the run file has as well: which of the two is meant is not guessed.
    """
    if not NAME.fullmatch(str(written)):
        return resolve_location(written, base)
    try:
        shipped = shipped_file(str(written), folder, kind)
    except ValueError as error:
        raise ValueError(f"{error}; a path to your own has a slash or a suffix") from None
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
