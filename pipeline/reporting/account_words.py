"""The account of a run's time in words, for `pipeline status` and the report."""

from dataclasses import dataclass

from pipeline.logs import counted_noun, human_seconds
from pipeline.reporting.run_account import CAUSES, PARTS, RunAccount

JOULES_PER_KILOWATT_HOUR = 3.6e6


@dataclass(frozen=True)
class ShownPart:
    """A part of a run's wall time as people read it."""

    name: str
    seconds: float
    share: float
    """Share of the wall time."""
    detail: str
    """More about the part, such as the number of steps; may be empty."""


def account_headline(account: RunAccount) -> str:
    """Return wall time, progress, hours of devices and energy in one line."""
    facts = [
        f"{human_seconds(account.wall_seconds)} of wall time",
        f"{account.effective_training_time_ratio:.1%} made progress (ETTR)",
        counted_noun(account.jobs, "job"),
        counted_noun(account.starts, "start"),
        f"{account.device_hours:,.2f} {name_of_device_hours(account)}",
    ]
    if account.joules is not None:
        facts.append(energy_in_words(account.joules))
    return ", ".join(facts)


def name_of_device_hours(account: RunAccount) -> str:
    """Return `GPU-hours`, or `device-hours` for CPUs and where the device is not recorded."""
    if account.device in (None, "CPU"):
        return "device-hours"
    return "GPU-hours"


def energy_in_words(joules: float) -> str:
    """Return an energy as `1.23 kWh`, a small one as `950 J`."""
    kilowatt_hours = joules / JOULES_PER_KILOWATT_HOUR
    if kilowatt_hours < 0.01:
        return f"{joules:,.0f} J"
    return f"{kilowatt_hours:,.2f} kWh"


def shown_parts(account: RunAccount, least_share: float = 0.0) -> list[ShownPart]:
    """Return the parts that took time, lost steps by cause.

    `least_share`: share of the wall time below which a part is left out.
    """
    wall = account.wall_seconds
    if wall == 0:
        return []
    parts: list[ShownPart] = []
    for part in PARTS:
        if part == "lost steps":
            parts += _lost_parts(account, wall)
        else:
            seconds = account.seconds[part]
            detail = counted_noun(account.steps, "step") if part == "training" else ""
            parts.append(ShownPart(part, seconds, seconds / wall, detail))
    return [part for part in parts if part.seconds and part.share >= least_share]


def _lost_parts(account: RunAccount, wall: float) -> list[ShownPart]:
    lost: list[ShownPart] = []
    for cause in CAUSES:
        seconds = account.lost_seconds[cause]
        detail = counted_noun(account.lost_steps[cause], "step")
        lost.append(ShownPart(f"lost: {cause}", seconds, seconds / wall, detail))
    return lost
