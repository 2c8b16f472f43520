"""What a fork runs to call a function of a test: `python -m call_in_fork`, with the call as its input.

A call is JSON: paths and functions of modules, which JSON has not, are objects of their own kind.
"""

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PATH = "a path"
FUNCTION = "a function"


def call_as_text(function: Callable[..., object], arguments: Sequence[Any]) -> str:
    """Return a call as `main` reads it. A module is found by the present search path."""
    call = {"search": sys.path, "call": [function, *arguments]}
    return json.dumps(call, default=_as_object)


def _as_object(value: object) -> dict[str, Any]:
    if isinstance(value, Path):
        return {PATH: str(value)}
    if callable(value):
        return {FUNCTION: [value.__module__, value.__qualname__]}
    raise TypeError(f"{value!r} cannot be given to a function in a fork")


def _from_object(value: dict[str, Any]) -> Any:
    if PATH in value:
        return Path(value[PATH])
    if FUNCTION in value:
        module, name = value[FUNCTION]
        return getattr(importlib.import_module(module), name)
    return value


def main() -> None:
    """Read a call and make it."""
    text = sys.stdin.read()
    # First where modules lie: with the functions their modules are read.
    sys.path[:] = json.loads(text)["search"]
    function, *arguments = json.loads(text, object_hook=_from_object)["call"]
    function(*arguments)


if __name__ == "__main__":
    main()
