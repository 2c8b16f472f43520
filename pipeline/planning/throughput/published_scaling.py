"""Weak scaling that others have published, to stand beside measured points.

Reads `published_scaling.csv` beside this module: series of the same work for each device; README.md of
this folder says what its columns hold.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("published_scaling.csv")


@dataclass(frozen=True)
class PublishedRate:
    """The rate of a device in a job of some devices."""

    devices: int
    rate: float
    """In the unit of its series."""


@dataclass(frozen=True)
class PublishedSeries:
    """One system on several numbers of devices, the fewest first."""

    name: str
    rates: tuple[PublishedRate, ...]
    source: str

    def efficiencies(self) -> list[tuple[float, float]]:
        """Return (K / the series' smallest K, rate of a device / that at the smallest K)."""
        first = self.rates[0]
        return [(rate.devices / first.devices, rate.rate / first.rate) for rate in self.rates]


@cache
def published_scaling() -> tuple[PublishedSeries, ...]:
    """Return all published series, in the order of the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = dict.fromkeys(row["series"] for row in rows)
    series: list[PublishedSeries] = []
    for name in names:
        own = [row for row in rows if row["series"] == name]
        rates = [PublishedRate(int(row["devices"]), float(row["rate_per_device"])) for row in own]
        rates.sort(key=lambda rate: rate.devices)
        series.append(PublishedSeries(name, tuple(rates), own[0]["source"]))
    return tuple(series)
