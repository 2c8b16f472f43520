"""RedPajama-v2's own code as a reference: a checkout of github.com/togethercomputer/RedPajama-Data,
named by PIPELINE_TEST_REDPAJAMA."""

import importlib
import os
import sys
import types
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import zstandard

VARIABLE = "PIPELINE_TEST_REDPAJAMA"
needs_published_code = pytest.mark.skipif(
    VARIABLE not in os.environ or "PIPELINE_TEST_CORPUS" not in os.environ,
    reason=f"{VARIABLE} names no checkout of RedPajama-Data, or PIPELINE_TEST_CORPUS no text",
)
CHARACTERS = 60_000
"""Characters of a real document that are compared: the published code takes 1 MB in a second."""


class PublishedCode(NamedTuple):
    """What the checkout defines."""

    document: Callable[..., Any]
    signals: dict[str, Callable[[Any], list[tuple[int, int, float | None]]]]
    minhash: Callable[..., Any]


@contextmanager
def published_code() -> Generator[PublishedCode]:
    """Import the checkout's modules, and forget them afterwards."""
    before = {*sys.modules}
    root = str(Path(os.environ[VARIABLE]) / "app" / "src")
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
        yield PublishedCode(
            importlib.import_module("core.document").Document,
            {each.field_name: each for each in functions},
            importlib.import_module("dedupe.minhash").MinHash,
        )
    finally:
        sys.path.remove(root)
        for name in {*sys.modules} - before:
            if name.split(".")[0] in ("core", "dedupe", "utilities", "msgspec"):
                del sys.modules[name]


def real_documents(each: int) -> dict[str, str]:
    """Return the beginnings of the first texts of every file of PIPELINE_TEST_CORPUS, by name."""
    texts: dict[str, str] = {}
    for path in sorted(Path(os.environ["PIPELINE_TEST_CORPUS"]).glob("*.jsonl.zst")):
        with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for row, line in enumerate(islice(lines, each)):
                texts[f"{path.name}/{row}"] = orjson.loads(line)["text"][:CHARACTERS]
    assert texts
    return texts
