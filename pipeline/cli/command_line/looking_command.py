"""Commands that only look: they end within a second or two, most of which is importing modules."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the type that typer's own methods take, which it exports under no name
    from typer._click import Context

from pipeline.cli.command_line.plain_help import PlainCommand

UNCOLLECTED_OBJECTS = 100_000
"""Objects that a looking command makes before Python looks for garbage in cycles; Python's own
number is 700. So many small objects take at most some tens of megabytes."""


class LookingCommand(PlainCommand):
    """A command that looks and ends; Python seldom searches its objects for garbage in cycles."""

    def invoke(self, ctx: Context) -> Any:
        """Run the command."""
        # At its end Python would search all objects once more; those of `freeze` it leaves alone.
        atexit.register(gc.freeze)
        with rare_collections():
            return super().invoke(ctx)


@contextmanager
def rare_collections() -> Generator[None]:
    """Collect garbage in cycles once in UNCOLLECTED_OBJECTS new objects while this context lasts.

    Importing modules makes objects that live on: Python goes through all of them again and again, a
    tenth of the time of such a command. What no cycle holds is freed at once as ever.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(UNCOLLECTED_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
