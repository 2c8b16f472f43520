"""A script: print the docstrings of compiled standard-library modules, named as arguments, as JSON
on standard output.

It runs in a process of its own, without site packages: some of these modules, imported out of the
order that the library expects (`_asyncio` before `asyncio`), leave the library's own state broken.
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
    """Yield `(dotted name, docstring)` of a module, its classes and their attributes, and its
    functions."""
    try:
        module = importlib.import_module(name)
    except Exception:  # compiled against a library that this machine lacks
        return
    yield "", _docstring(module)
    for member_name, member in sorted(vars(module).items()):
        if not (inspect.isclass(member) or inspect.isroutine(member)):
            continue  # the docstring of a constant is its type's
        yield member_name, _docstring(member)
        if inspect.isclass(member):
            for attribute_name, attribute in sorted(vars(member).items()):
                yield f"{member_name}.{attribute_name}", _docstring(attribute)


def _docstring(member: Any) -> str:
    docstring = getattr(member, "__doc__", None)
    return inspect.cleandoc(docstring) if isinstance(docstring, str) else ""


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
