"""RedPajama-v2's own code as a reference: a checkout of github.com/togethercomputer/RedPajama-Data,
named by PIPELINE_TEST_REDPAJAMA."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import orjson
import pytest
import zstandard

from pipeline.benchmarks.curating import redpajama_code
from pipeline.benchmarks.curating.redpajama_code import VARIABLE, PublishedCode
from pipeline.store.environment import user_variable

needs_published_code = pytest.mark.skipif(
    not (user_variable(VARIABLE) and user_variable("PIPELINE_TEST_CORPUS")),
    reason=f"{VARIABLE} names no checkout of RedPajama-Data, or PIPELINE_TEST_CORPUS no text",
)
CHARACTERS = 60_000
"""Characters of a real document that are compared: the published code takes 1 MB in a second."""


@contextmanager
def published_code() -> Generator[PublishedCode]:
    """Import the checkout's modules, and forget them afterwards."""
    with redpajama_code.published_code(Path(os.environ[VARIABLE])) as code:
        yield code


def real_documents(each: int) -> dict[str, str]:
    """Return the beginnings of the first texts of every file of PIPELINE_TEST_CORPUS, by name."""
    texts: dict[str, str] = {}
    for path in sorted(Path(os.environ["PIPELINE_TEST_CORPUS"]).glob("*.jsonl.zst")):
        with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for row, line in enumerate(islice(lines, each)):
                texts[f"{path.name}/{row}"] = orjson.loads(line)["text"][:CHARACTERS]
    assert texts
    return texts
