"""What is kept of a comparison that is done, so that another threshold starts at its rounds.

Groups and sets of shingles depend on no threshold, and exist of documents in groups alone. The records
of bands, which exist of every document, are read only to make groups: their files go, and the results
of their work items are kept as JSON.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pipeline.corpus.near_duplicates.band_records import RecordedShard
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder
from pipeline.store.files import fingerprint, read_json, remove_unlisted, write_json


@dataclass(frozen=True)
class ReusableSteps:
    """The steps of a comparison that depend on no threshold."""

    fingerprint: str
    """Hash of everything that decides the records of bands."""
    recorded: Mapping[int, RecordedShard]
    """Results of the step `bands`, by shard."""
    groups: Sequence[str]
    """Files of the step `groups`, below its folder."""
    sets: Sequence[str]
    """Files of the step `shingles`, below its folder."""


class _KeptBands(TypedDict):
    fingerprint: str
    recorded: list[RecordedShard]
    checksum: str
    """Hash of the results."""


def trim_comparison(folder: Path, steps: ReusableSteps) -> None:
    """Delete what another threshold does not need. `folder`: of the comparison, which is done.

    A kill in between costs time at the next start, nothing else.
    """
    files = ComparisonFolder(folder)
    recorded = [steps.recorded[number] for number in range(len(steps.recorded))]
    kept: _KeptBands = {
        "fingerprint": steps.fingerprint,
        "recorded": recorded,
        "checksum": fingerprint(recorded),
    }
    # Before the files go of which it tells.
    write_json(files.recorded_bands, kept)
    for path in (
        files.bands.path,
        files.rarity.path,
        files.prefixes.path,
        files.prefix_groups.path,
        files.rounds,
        files.every_verdicts,
    ):
        shutil.rmtree(path, ignore_errors=True)

    # Files of partitions and shards that are no longer compared.
    for step, names in ((files.groups, steps.groups), (files.sets, steps.sets)):
        remove_unlisted(step.path, names, ["[!.]*/*"])


def kept_bands(folder: Path, decides: str) -> dict[int, RecordedShard] | None:
    """Return the results of the step `bands` that `trim_comparison` kept; None where others are wanted.

    `decides`: the `ReusableSteps.fingerprint` that is wanted. Raises DataError for a file that is no JSON.
    """
    kept: _KeptBands | None = read_json(ComparisonFolder(folder).recorded_bands)
    if kept is None or kept["fingerprint"] != decides:
        return None
    if kept["checksum"] != fingerprint(kept["recorded"]):
        return None
    return dict(enumerate(kept["recorded"]))
