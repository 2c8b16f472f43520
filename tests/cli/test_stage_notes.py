"""Lines about one stage."""

from pipeline.cli.stage_notes import MOST_REASONS, stale_lines
from pipeline.store.artifacts import StageState
from pipeline.store.stages import STAGES


def test_a_preset_that_was_swapped_takes_a_handful_of_lines() -> None:
    select = next(stage for stage in STAGES if stage.name == "select")
    reasons = tuple(f"select.rules.gopher/{n}: 1 -> not set" for n in range(25))
    lines = stale_lines(select, StageState("stale", reasons))
    assert len(lines) == MOST_REASONS + 1
    assert lines[0] == "select: stale, select.rules.gopher/0: 1 -> not set"
    assert lines[-1] == "select: stale, and 20 more changes (`pipeline status` has all)"
    assert len(stale_lines(select, StageState("stale", reasons[:2]))) == 2
