"""A kind of schedule that only this file knows is checked and followed like the others."""

from pathlib import Path

import pytest

from pipeline.config.kinds import SCHEDULES
from pipeline.config.run_file import load
from pipeline.config.schedules import ScheduleKind, learning_rate
from pipeline.config.sections import Schedule
from pipeline.errors import ConfigError


class Stairs(ScheduleKind):
    """Falls to the final fraction at half of the run."""

    optional_fields = ("final_learning_rate_fraction",)

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        is_first_half = 2 * tokens <= total
        return 1.0 if is_first_half else schedule.final_learning_rate_fraction

    def problems(self, schedule: Schedule) -> list[str]:
        is_flat = schedule.final_learning_rate_fraction == 1
        return ["schedule: these stairs have no step"] if is_flat else []


@pytest.fixture(autouse=True)
def _with_stairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES.paths, "stairs", f"{__name__}:Stairs")


def rates(run_file: Path, *overrides: str) -> list[float]:
    config = load(run_file, ["schedule.kind=stairs", *overrides])
    return [learning_rate(config, step) / 6e-4 for step in range(1, config.total_steps + 1)]


def test_a_new_kind_decides_the_rate_after_the_warm_up(run_file: Path) -> None:
    """10 steps of 32 tokens, the first two of which warm up."""
    found = rates(
        run_file, "schedule.warmup_tokens=64", "schedule.final_learning_rate_fraction=0.5"
    )
    assert found == pytest.approx([0.5, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "schedule.decay_tokens=8",
            "schedule.decay_tokens = 8: must be set if schedule.kind is wsd, and only then",
        ),
        (
            "schedule.decay_shape=linear",
            "schedule.decay_shape = linear: kind stairs does not use it, only wsd; leave it out",
        ),
        (
            "schedule.final_learning_rate_fraction=1",
            "schedule: these stairs have no step",
        ),
    ],
)
def test_a_new_kind_refuses_what_it_does_not_take(
    run_file: Path, override: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(run_file, ["schedule.kind=stairs", override])
    assert refused.value.problems == [problem]


def test_a_new_kind_is_among_the_choices(run_file: Path) -> None:
    with pytest.raises(ConfigError, match="or 'stairs'"):
        load(run_file, ["schedule.kind=stair"])
