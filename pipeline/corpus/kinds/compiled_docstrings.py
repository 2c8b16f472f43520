"""A script that prints the docstrings of compiled standard-library modules.

Takes the modules' names as arguments; writes JSON to standard output. It runs in a process of its
own, without site packages: some of these modules break the library's state when they are imported
in another order than the library expects (`_asyncio` before `asyncio`).
"""

import importlib
import inspect
import io
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any


def module_docstrings(name: str) -> Iterator[tuple[str, str]]:
    """Yield `(dotted name, docstring)` of a module, its functions, its classes and their attributes."""
    try:
        module = importlib.import_module(name)
    except Exception:
        # Compiled against a library that this machine lacks.
        return
    yield "", _docstring(module)
    for member_name, member in sorted(vars(module).items()):
        if not (inspect.isclass(member) or inspect.isroutine(member)):
            # The docstring of a constant is that of its type.
            continue
        yield member_name, _docstring(member)
        if inspect.isclass(member):
            for attribute_name, attribute in sorted(vars(member).items()):
                yield f"{member_name}.{attribute_name}", _docstring(attribute)


def _docstring(member: Any) -> str:
    docstring = getattr(member, "__doc__", None)
    if not isinstance(docstring, str):
        return ""
    return inspect.cleandoc(docstring)


def main() -> None:
    """Print `{module: [[name, docstring], ...]}`."""
    warnings.simplefilter("ignore")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        docstrings = {
            name: [pair for pair in module_docstrings(name) if pair[1]] for name in sys.argv[1:]
        }
    print(json.dumps(docstrings))


if __name__ == "__main__":
    main()
