"""An account in words and as a section of the page, with figures that can be checked by hand."""

import re
from dataclasses import replace

from pipeline.reporting.account_section import account_section, time_bar
from pipeline.reporting.account_words import account_headline, energy_in_words, shown_parts
from pipeline.reporting.run_account import CAUSES, PARTS, Cause, Part, RunAccount

SECONDS: dict[Part, float] = {"training": 800.0, "lost steps": 60.0, "between jobs": 136.0}
LOST: dict[Cause, float] = {"kill": 50.0, "rollback": 10.0}
ACCOUNT = RunAccount(
    seconds={**dict.fromkeys(PARTS, 0.0), **SECONDS, "saving": 4.0},
    lost_seconds={**dict.fromkeys(CAUSES, 0.0), **LOST},
    lost_steps={**dict.fromkeys(CAUSES, 0), "kill": 12, "rollback": 1},
    steps=1000,
    jobs=2,
    starts=4,
    device_hours=1920.5,
    device="H100",
    joules=7.2e6,
    joules_seconds=850.0,
)
"""A run of 1,000 s."""


def test_the_headline_has_wall_time_progress_devices_and_energy() -> None:
    assert account_headline(ACCOUNT) == (
        "16 min 40 s of wall time, 92.6% made progress (ETTR), 2 jobs, 4 starts, "
        "1,920.50 GPU-hours, 2.00 kWh"
    )


def test_hours_of_cpus_and_of_unknown_devices_are_no_gpu_hours() -> None:
    for device in ("CPU", None):
        line = account_headline(replace(ACCOUNT, device=device, joules=None))
        assert line.endswith("4 starts, 1,920.50 device-hours")


def test_a_small_energy_is_told_in_joules() -> None:
    assert energy_in_words(35_999) == "35,999 J"
    assert energy_in_words(36_000) == "0.01 kWh"


def test_parts_have_shares_and_lost_steps_their_causes() -> None:
    parts = [(part.name, part.share, part.detail) for part in shown_parts(ACCOUNT)]
    assert parts == [
        ("training", 0.8, "1,000 steps"),
        ("saving", 0.004, ""),
        ("lost: kill", 0.05, "12 steps"),
        ("lost: rollback", 0.01, "1 step"),
        ("between jobs", 0.136, ""),
    ]
    names = [part.name for part in shown_parts(ACCOUNT, least_share=0.01)]
    assert names == ["training", "lost: kill", "lost: rollback", "between jobs"]


def test_the_section_shows_every_part_and_the_energy() -> None:
    html = account_section(ACCOUNT)
    cells = [re.findall(r"<td[^>]*>([^<]*)", row) for row in re.findall(r"<tr>.*?</tr>", html)]
    assert cells[1:] == [
        ["training", "1,000 steps", "13 min 20 s", "80.0%"],
        ["saving", "", "4.0 s", "0.4%"],
        ["lost: kill", "12 steps", "50.0 s", "5.0%"],
        ["lost: rollback", "1 step", "10.0 s", "1.0%"],
        ["between jobs", "", "2 min 16 s", "13.6%"],
        ["together", "", "16 min 40 s", "100.0%"],
    ]
    assert "The devices used 2.00 kWh, measured for 14 min 10 s." in html
    assert "The devices used" not in account_section(replace(ACCOUNT, joules=None))
    assert account_section(None) == ""


def test_the_bar_draws_all_but_hairlines() -> None:
    svg = time_bar(shown_parts(ACCOUNT))
    for name in ("training 80.0%", "lost: kill 5.0%", "lost: rollback 1.0%", "between jobs 13.6%"):
        assert name in svg
    assert "saving" not in svg
    assert svg == time_bar(shown_parts(ACCOUNT))


def test_every_part_has_a_colour() -> None:
    """All lost steps have one colour, and each cause a pattern."""
    seconds = dict.fromkeys(PARTS, 100.0)
    lost = dict.fromkeys(CAUSES, 100.0 / len(CAUSES))
    parts = shown_parts(replace(ACCOUNT, seconds=seconds, lost_seconds=lost))
    assert len(parts) == len(PARTS) - 1 + len(CAUSES)
    assert time_bar(parts).count("<pattern") == len(CAUSES) - 1
