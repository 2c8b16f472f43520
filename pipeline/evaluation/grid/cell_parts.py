"""Parts of a cell that different workers have scored, and the cell that they make together.

A part is a JSON file beside the cell: its key, and the likelihoods of the part's requests. Once the
parts of a cell are complete, its task is run again with these likelihoods instead of a model.
"""

import re
from typing import TypedDict

from pipeline.errors import DataError
from pipeline.evaluation.scorer.sharing_scorer import Likelihood
from pipeline.evaluation.scorer.slices import Part
from pipeline.store.files import read_json, write_json
from pipeline.store.scores_folder import CellPlace


class StoredPart(TypedDict):
    """Content of a part's file."""

    key: str
    """Key of the cell."""
    calls: list[list[tuple[int, float, bool]]]
    """For each call of lm-eval: index of a request, nats, whether no other tokens are likelier."""


def write_part(place: CellPlace, key: str, part: Part, calls: list[dict[int, Likelihood]]) -> None:
    """Write the likelihoods of a part, so that they are whole or not there."""
    rows = [[(index, *likelihood) for index, likelihood in call.items()] for call in calls]
    stored: StoredPart = {"key": key, "calls": rows}
    path = place.part(part.number, part.count)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, stored)


def merged_parts(place: CellPlace, key: str) -> list[list[Likelihood]] | None:
    """Return the likelihoods of each call from the parts of a cell; None unless all are there.

    Parts of a cell with another key do not count.
    """
    for count in _part_counts(place):
        stored = [_read_part(place, number, count) for number in range(count)]
        parts = [part for part in stored if part is not None and part["key"] == key]
        if len(parts) < count:
            continue
        calls: list[list[Likelihood]] = []
        for rows_of_parts in zip(*(part["calls"] for part in parts), strict=True):
            likelihoods = {
                index: (nats, is_likeliest)
                for rows in rows_of_parts
                for index, nats, is_likeliest in rows
            }
            calls.append([likelihoods[index] for index in range(len(likelihoods))])
        return calls
    return None


def remove_parts(place: CellPlace) -> None:
    """Delete the parts of a cell, which may be going away at the same time."""
    for path in place.parts.glob("*.json"):
        path.unlink(missing_ok=True)
    if place.parts.is_dir() and not any(place.parts.iterdir()):
        place.parts.rmdir()


def _part_counts(place: CellPlace) -> list[int]:
    """Return into how many parts the cell was divided, by one run or several."""
    matches = [re.fullmatch(r"\d+-of-(\d+)", path.stem) for path in place.parts.glob("*.json")]
    return sorted({int(match[1]) for match in matches if match is not None})


def _read_part(place: CellPlace, number: int, count: int) -> StoredPart | None:
    """Return a part; None where it is missing or damaged."""
    try:
        return read_json(place.part(number, count))
    except DataError:
        return None
