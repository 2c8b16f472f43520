"""Parts of a cell that different workers have scored, and the cell that they make together.

A part is a JSON file beside the cell: its key, and the likelihoods of the part's requests. Once the
parts of a cell are complete, its task is run again with these likelihoods instead of a model.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TypedDict, cast

from pipeline.errors import DataError
from pipeline.evaluation.scorer.slices import Likelihood, Part
from pipeline.store.files import read_json, write_json
from pipeline.store.scores_folder import CellPlace


class StoredPart(TypedDict):
    """Content of a part's file."""

    key: str
    """Key of the cell."""
    computes_as: str
    """What computed the likelihoods: scorer, number format, kind of device."""
    requests: list[str]
    """For each call of lm-eval, `number-hash` of the requests of the whole cell."""
    calls: list[list[tuple[int, float, bool]]]
    """For each call: index of a request, nats, whether no other tokens are likelier."""


def write_part(
    place: CellPlace,
    key: str,
    part: Part,
    computes_as: str,
    requests: Sequence[str],
    calls: Sequence[dict[int, Likelihood]],
) -> None:
    """Write the likelihoods of a part, so that they are whole or not there."""
    stored: StoredPart = {
        "key": key,
        "computes_as": computes_as,
        "requests": list(requests),
        "calls": [[(index, *likelihood) for index, likelihood in call.items()] for call in calls],
    }
    write_json(place.part(part.number, part.count), stored)


def merged_parts(
    place: CellPlace, key: str, computes_as: str
) -> list[tuple[str, list[Likelihood]]] | None:
    """Return hash and likelihoods of each call from the parts of a cell; None unless all are there.

    Parts of a cell with another key, or that were computed otherwise, do not count.
    """
    for count in _part_counts(place):
        stored = [_read_part(place, number, count) for number in range(count)]
        parts = [
            part
            for part in stored
            if part is not None and (part["key"], part["computes_as"]) == (key, computes_as)
        ]
        if len(parts) < count or any(part["requests"] != parts[0]["requests"] for part in parts):
            continue
        calls = [
            _merged_call(requests, [part["calls"][number] for part in parts])
            for number, requests in enumerate(parts[0]["requests"])
        ]
        if all(calls):
            return [call for call in calls if call is not None]
    return None


def _merged_call(
    requests: str, parts: Sequence[list[tuple[int, float, bool]]]
) -> tuple[str, list[Likelihood]] | None:
    """Return the likelihoods of a call in the order of its requests; None where some are missing."""
    likelihoods = {
        index: (nats, is_likeliest) for rows in parts for index, nats, is_likeliest in rows
    }
    size = int(requests.partition("-")[0])
    if likelihoods.keys() != set(range(size)):
        return None
    return requests, [likelihoods[index] for index in range(size)]


def remove_parts(place: CellPlace) -> None:
    """Delete the parts of a cell, which another worker may be deleting at the same time."""
    with suppress(FileNotFoundError):
        for path in list(place.parts.iterdir()):
            path.unlink(missing_ok=True)
        place.parts.rmdir()


def _part_counts(place: CellPlace) -> list[int]:
    """Return into how many parts the cell was divided, by one run or several."""
    matches = [re.fullmatch(r"\d+-of-(\d+)", path.stem) for path in place.parts.glob("*.json")]
    return sorted({int(match[1]) for match in matches if match is not None})


def _read_part(place: CellPlace, number: int, count: int) -> StoredPart | None:
    """Return a part; None where it is missing or damaged."""
    try:
        content = read_json(place.part(number, count))
    except DataError:
        return None
    if not isinstance(content, dict) or content.keys() != StoredPart.__annotations__.keys():
        return None
    return cast("StoredPart", content)
