"""Finds the files with the Python code that a task of lm-eval runs. Imports lm-eval."""

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType

from lm_eval.api.task import Task

LIBRARIES = ("lm_eval.api", "lm_eval.filters", "pipeline", "builtins", "abc")
"""Packages whose classes are no code of a task."""


def files_of_code(task: Task) -> list[Path]:
    """Return the files that define a task's own class, and the functions of its definition, sorted.

    Functions are found wherever the definition names them, also in its metrics and filters.
    """
    files = {
        inspect.getsourcefile(code)
        for settings in (task.config, task.config.fewshot_config)
        for code in _code_within(list(vars(settings).values()))
    }
    for kind in type(task).__mro__:
        if not any(f"{kind.__module__}.".startswith(f"{library}.") for library in LIBRARIES):
            files.add(inspect.getsourcefile(kind))
    return sorted(Path(file) for file in files if file is not None)


def _code_within(value: object) -> Iterator[FunctionType | MethodType | type]:
    """Yield the functions and classes within a value of a definition that Python code defines."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, partial):
            part = part.func
        if isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, FunctionType | MethodType | type):
            yield part
