"""Writes and reads `fits.json`: the laws of a table with their intervals, for later use."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from pipeline.errors import DataError, first_of
from pipeline.planning.laws.fit_summary import FitSummary
from pipeline.planning.laws.intervals import PERCENTILES
from pipeline.planning.laws.loss_law import LossLaw, Unit
from pipeline.planning.laws.points import Selection
from pipeline.store.files import read_json, write_json
from pipeline.store.studies.study_folder import FITS

FORMAT = "pipeline fits"
VERSION = 1
COUNTS_OF_ALL = ("parameters_total", "parameters")
"""Ways of counting N that are all parameters, or what a table simply calls so."""
LAW_FIELDS = {
    "E": "irreducible",
    "A": "parameter_factor",
    "alpha": "parameter_exponent",
    "B": "token_factor",
    "beta": "token_exponent",
}
"""Key of the file -> field of LossLaw."""


@dataclass(frozen=True)
class StoredLaw:
    """One law of a file."""

    law: LossLaw
    count: str
    """How N is counted."""


def write_fits(path: Path, selection: Selection, summaries: Sequence[FitSummary]) -> None:
    """Write the laws of a table. JSON has no NaN: a number that is none is null."""
    write_json(path, fits_as_json(selection, summaries))


def fits_as_json(selection: Selection, summaries: Sequence[FitSummary]) -> dict[str, object]:
    """Return what `write_fits` writes, as JSON values."""
    fitted = summaries[0].fitted
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": selection.table.name,
        "unit": selection.table.unit,
        "points_used": [point.name for point in selection.kept],
        "points_dropped": [asdict(point) for point in selection.dropped],
        "resamples": len(fitted.resampled),
        "seed": fitted.seed,
        "percentiles": list(PERCENTILES),
        "fits": [_fit_as_json(summary) for summary in summaries],
    }


def _fit_as_json(summary: FitSummary) -> dict[str, object]:
    """Return the fit for one way of counting N."""
    fitted = summary.fitted
    prediction = None
    if summary.prediction is not None:
        prediction = asdict(summary.prediction)
    return {
        "counts": list(summary.counts),
        "objective": fitted.objective,
        "law": {key: getattr(fitted.law, field) for key, field in LAW_FIELDS.items()},
        "numbers": [asdict(number) for number in summary.numbers],
        "optima": [asdict(optimum) for optimum in summary.optima],
        "largest_run": prediction,
        "parabolas": [_without_nan(asdict(parabola)) for parabola in summary.parabolas],
    }


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    """Return a record with None for every NaN."""
    finite = {key: value for key, value in values.items() if not math.isnan(value)}
    return {key: finite.get(key) for key in values}


def read_law(path: Path, counts: Sequence[str]) -> StoredLaw:
    """Return the law of a file for the first of some ways of counting N that it has.

    Raises DataError for a missing file, one that holds no fitted laws, one of another version, and
    one without any of the ways of counting.
    """
    laws = read_laws(path)
    for count in counts:
        for stored in laws:
            if stored.count == count:
                return stored
    raise DataError(
        f"{path}: holds laws of {first_of([stored.count for stored in laws], 5)}, and one of "
        f"{' or '.join(counts)} is needed: fit a table with such a column"
    )


def law_of_all_parameters(path: Path) -> LossLaw:
    """Return the law of a file with N all parameters, in nats a token.

    Its name says which file it is from. Raises DataError as `read_law`, and ConfigError for a law in
    bits per byte.
    """
    law = read_law(path, COUNTS_OF_ALL).law
    return replace(law, name=f"{law.name}, fitted in {path}").in_nats()


def read_laws(path: Path) -> list[StoredLaw]:
    """Return the laws of a file, one for each way of counting N.

    Raises DataError for a missing file, one that holds no fitted laws, and one of another version.
    """
    content = read_json(path)
    if content is None:
        raise DataError(f"{path}: does not exist. Write it with `pipeline study fit`.")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(
            f"{path}: is no file of fitted laws. Name a {FITS} that `pipeline study fit` wrote."
        )
    values = cast("dict[str, Any]", content)
    if values.get("version") != VERSION:
        raise DataError(
            f"{path}: has version {values.get('version')}, this program reads version {VERSION}. "
            "Fit the table again."
        )
    try:
        return [law for fit in values["fits"] for law in _stored_laws(values, fit)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: is damaged ({type(error).__name__}: {error}). Fit the table again."
        ) from None


def _stored_laws(values: dict[str, Any], fit: dict[str, Any]) -> list[StoredLaw]:
    """Return one fit's law for each way of counting N that it is for.

    Raises KeyError, TypeError or ValueError where it is not whole.
    """
    unit = values["unit"]
    if unit not in get_args(Unit):
        raise ValueError(f"unit {unit}")
    numbers: dict[str, float] = {}
    for key, field in LAW_FIELDS.items():
        number = float(fit["law"][key])
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{key} {number}")
        numbers[field] = number
    law = LossLaw(name=str(values["name"]), unit=unit, **numbers)
    return [StoredLaw(law, str(count)) for count in fit["counts"]]
