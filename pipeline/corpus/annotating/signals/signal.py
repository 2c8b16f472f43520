"""What a signal is: a name and a function of a document. Reads and writes no file."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from pipeline.corpus.annotating.document_text import DocumentText

PRECISION = 8
"""Decimals to which published signals are rounded. Source: RedPajama-Data, app/src/core/constants.py."""

DocumentSignal: TypeAlias = Callable[[DocumentText], float | None]
"""Returns the value for the whole document, None where it is undefined."""
LineSignal: TypeAlias = Callable[[DocumentText], np.ndarray]
"""Returns a value for each line, `(lines,) float64`."""


class Signals(NamedTuple):
    """The signals of one module, by name."""

    of_documents: Mapping[str, DocumentSignal]
    of_lines: Mapping[str, LineSignal]


def ratio(part: float, whole: float) -> float:
    """Return `part / whole`, rounded as published signals are."""
    return round(float(part / whole), PRECISION)


def rounded(values: np.ndarray) -> np.ndarray:
    """Return values of 0 to 1 rounded as Python's `round` does, which sees their binary digits."""
    scaled = values * 10**PRECISION
    result = np.rint(scaled) / 10**PRECISION
    # Scaling is not exact: near a half, only Python's digits decide.
    for place in np.flatnonzero(np.abs(scaled - np.floor(scaled) - 0.5) < 1e-6).tolist():
        result[place] = round(float(values[place]), PRECISION)
    return result
