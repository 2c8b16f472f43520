"""Imports transformers' models without libraries that training has no use for.

Transformers' loss for finding objects in images imports scipy, and accelerate's questions on
SageMaker import boto3, wherever they are installed: 560 modules and 44 MB of every rank. Both can
still be imported later. To be imported before anything of transformers.
"""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module

UNUSED = ("scipy", "boto3")
"""Libraries that transformers and accelerate import where they are installed, and no rank needs."""


@contextmanager
def hidden(names: Sequence[str]) -> Generator[None]:
    """Let libraries that have not been imported look as if they were not installed.

    Python refuses to import, or to find, a module whose place in `sys.modules` is taken by None.
    """
    places = [name for name in names if name not in sys.modules]
    try:
        for name in places:
            sys.modules[name] = None  # pyright: ignore[reportArgumentType]
        yield
    finally:
        for name in places:
            sys.modules.pop(name, None)


def to_hide() -> Sequence[str]:
    """Return the libraries to hide: none where transformers has seen already what is installed."""
    if "transformers" in sys.modules:
        return ()
    return UNUSED


with hidden(to_hide()):
    import_module("transformers.modeling_utils")
