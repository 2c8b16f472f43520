"""The files of code that decide what a task asks and how it is scored.

Reads Python files; runs none of them. Code that a module imports by a computed name is not found.
"""

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from lm_eval.api.task import Task

OUR_PACKAGES = ("lm_eval", "pipeline", "abc", "builtins")
"""Packages whose task classes have versions, which identify them."""


def files_of_code(task: Task) -> dict[Path, str]:
    """Return the files with a task's code, each with its name below the folder it belongs to.

    These are the files of all functions and classes in its definition, at any depth, that of its
    own class, and the modules beside such a file that it imports, directly or not.
    """
    definition = [vars(task.config), vars(task.config.fewshot_config)]
    classes = [
        cls for cls in type(task).__mro__ if cls.__module__.partition(".")[0] not in OUR_PACKAGES
    ]
    files: dict[Path, str] = {}
    for value in _code_within([definition, classes]):
        path = _source_file(value)
        if path is not None:
            for found in _with_modules_beside(path):
                files.setdefault(found, str(found.relative_to(path.parent)))
    return files


def _code_within(value: object) -> Iterator[type | object]:
    """Yield the functions and classes in a value of a definition."""
    if isinstance(value, partial):
        yield from _code_within(value.func)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _code_within(inner)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from _code_within(inner)
    elif inspect.isfunction(value) or inspect.isclass(value):
        yield value


def _source_file(value: object) -> Path | None:
    """Return the file that defines a function or class; None for one without source."""
    try:
        path = inspect.getsourcefile(value)  # pyright: ignore[reportArgumentType]
    except TypeError:  # built in
        return None
    if path is None:
        return None
    return Path(path)


def _with_modules_beside(path: Path) -> list[Path]:
    """Return a file, and all modules in its folder and below it that it imports."""
    found: list[Path] = []
    waiting = [path]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.append(module)
        waiting += _imported_modules(module, path.parent)
    return found


def _imported_modules(module: Path, root: Path) -> Iterator[Path]:
    """Yield the files in `root` and below it that the import statements of a module name."""
    try:
        tree = ast.parse(module.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of_module(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            # One dot is the module's own folder, each further one the folder above.
            base = root
            if node.level:
                base = module.parents[node.level - 1]
            if not base.is_relative_to(root):
                continue
            parts = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _files_of_module(base, [*parts, alias.name])


def _files_of_module(base: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield the files of a dotted name that exist: packages on the way, and modules."""
    folder = base
    for part in parts:
        for path in (folder / f"{part}.py", folder / part / "__init__.py"):
            if path.is_file():
                yield path
        folder = folder / part
