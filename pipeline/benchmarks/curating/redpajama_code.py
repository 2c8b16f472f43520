"""RedPajama-v2's own code, imported from a checkout of github.com/togethercomputer/RedPajama-Data.

Its modules are only read and called. They need nltk and scipy.
"""

import importlib
import sys
import types
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UserError

VARIABLE = "PIPELINE_TEST_REDPAJAMA"
"""Environment variable that names the checkout."""
MODULES = ("core", "dedupe", "utilities", "msgspec")
"""Names of its top modules, and of a package that it needs."""


class PublishedCode(NamedTuple):
    """What the checkout defines."""

    document: Callable[..., Any]
    """Makes a document from its text and the domain that it is from."""
    signals: dict[str, Callable[[Any], list[tuple[int, int, float | None]]]]
    """The signals that need no model and no list of URLs, by name."""
    minhash: Callable[..., Any]
    normalize: Callable[[str], str]


@contextmanager
def published_code(checkout: Path) -> Generator[PublishedCode]:
    """Import the checkout's modules, and forget them afterwards.

    Raises UserError where they cannot be imported.
    """
    before = {*sys.modules}
    root = str(checkout / "app" / "src")
    # Behind everything else: it has a module named like this package.
    sys.path.append(root)
    if "msgspec" not in sys.modules:
        # Only the types of its input files need this package.
        try:
            importlib.import_module("msgspec")
        except ModuleNotFoundError:
            sys.modules["msgspec"] = types.ModuleType("msgspec")
            vars(sys.modules["msgspec"])["Struct"] = object
    try:
        yield _imported()
    except ModuleNotFoundError as error:
        raise UserError(
            f"{checkout}: {error}. It must be a checkout of togethercomputer/RedPajama-Data, whose "
            "code needs nltk and scipy"
        ) from None
    finally:
        sys.path.remove(root)
        for name in {*sys.modules} - before:
            if name.split(".")[0] in MODULES:
                del sys.modules[name]


def _imported() -> PublishedCode:
    quality = "core.quality_signals"
    content = importlib.import_module(f"{quality}.content")
    functions = [
        content.RPS_Doc_Lorem_Ipsum(),
        content.RPS_Doc_Curly_Bracket(),
        content.RPS_Doc_Stop_Word_Fraction("en"),
    ]
    for name in ("repetitions", "natural_language", "lines"):
        module = importlib.import_module(f"{quality}.{name}")
        functions += getattr(module, f"register_{name}_callables")()
    return PublishedCode(
        importlib.import_module("core.document").Document,
        {each.field_name: each for each in functions},
        importlib.import_module("dedupe.minhash").MinHash,
        importlib.import_module("utilities.text").normalize,
    )
