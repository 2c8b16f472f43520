"""Writes and reads `throughput.json`: what a throughput study found, for `pipeline plan --from`.

Numbers without a value (a bandwidth that the points do not tell, or that no time is seen of) are
null.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.errors import DataError
from pipeline.planning.throughput.scaling_fit import FittedScaling, ScalingLaw
from pipeline.store.files import read_json, write_json
from pipeline.store.studies.study_folder import THROUGHPUT

FORMAT = "pipeline throughput"
VERSION = 1


@dataclass(frozen=True)
class MeasuredScaling:
    """What a throughput study tells of a cluster."""

    path: Path
    """The file."""
    law: ScalingLaw
    is_overlap_fitted: bool
    largest: int
    """The largest measured number of devices."""
    reference_run: Path
    """Folder of a run on the fewest devices, which tells all that does not depend on their number."""


def write_throughput(path: Path, fitted: FittedScaling, reference_run: str) -> None:
    """Write a fit with its points. `reference_run`: its folder, below that of the file."""
    law = fitted.law
    write_json(
        path,
        {
            "format": FORMAT,
            "version": VERSION,
            "law": {
                "compute_seconds": law.compute_seconds,
                "tokens_per_device": law.tokens_per_device,
                "link_bytes_per_second": _finite(law.link),
                "network_bytes_per_second": _finite(law.network),
                "overlap": law.overlap,
                "seconds_per_further_device": law.per_device_seconds,
            },
            "is_overlap_fitted": fitted.is_overlap_fitted,
            "relative_error": fitted.relative_error,
            "largest": fitted.largest,
            "reference_run": reference_run,
            "points": _points_as_json(fitted),
        },
    )


def _points_as_json(fitted: FittedScaling) -> Sequence[dict[str, object]]:
    return [asdict(point) for point in fitted.points]


def _finite(bandwidth: float | None) -> float | None:
    if bandwidth is None or math.isinf(bandwidth):
        return None
    return bandwidth


def throughput_file(path: Path) -> Path | None:
    """Return the file that a path names: itself, or that in a study's folder; None for others."""
    if path.name == THROUGHPUT:
        return path
    if (path / THROUGHPUT).is_file():
        return path / THROUGHPUT
    return None


def read_throughput(path: Path) -> MeasuredScaling:
    """Return what a file tells.

    Raises DataError for a missing file, one of another kind or version, and a damaged one.
    """
    content = read_json(path)
    if content is None:
        raise DataError(f"{path}: does not exist. Write it with `pipeline study report`.")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(
            f"{path}: holds no fit of throughput. Name a {THROUGHPUT} that `pipeline study report` "
            "wrote."
        )
    values = cast("dict[str, Any]", content)
    if values.get("version") != VERSION:
        raise DataError(
            f"{path}: has version {values.get('version')}, this program reads version {VERSION}. "
            "Write it again with `pipeline study report`."
        )
    try:
        return _measured(path, values)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: is damaged ({type(error).__name__}: {error}). Write it again with `pipeline "
            "study report`."
        ) from None


def _measured(path: Path, values: dict[str, Any]) -> MeasuredScaling:
    """Return a file's content. Raises KeyError, TypeError, ValueError or OverflowError where it is not whole."""
    law = values["law"]
    largest = int(_number(values["largest"]))
    if largest < 1:
        raise ValueError(f"largest is {largest}")
    overlap = _number(law["overlap"])
    if overlap > 1:
        raise ValueError(f"overlap is {overlap}, a share")
    return MeasuredScaling(
        path=path,
        law=ScalingLaw(
            compute_seconds=_number(law["compute_seconds"]),
            tokens_per_device=_positive(law["tokens_per_device"]),
            link=_bandwidth(law["link_bytes_per_second"]),
            network=_bandwidth(law["network_bytes_per_second"]),
            overlap=overlap,
            per_device_seconds=_number(law["seconds_per_further_device"]),
        ),
        is_overlap_fitted=bool(values["is_overlap_fitted"]),
        largest=largest,
        reference_run=path.parent / str(values["reference_run"]),
    )


def _bandwidth(value: object) -> float | None:
    if value is None:
        return None
    return _positive(value)


def _positive(value: object) -> float:
    number = _number(value)
    if number == 0:
        raise ValueError("0 is no number above 0")
    return number


def _number(value: object) -> float:
    """Return a number that is at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{value} is no number that is at least 0")
    return float(value)
