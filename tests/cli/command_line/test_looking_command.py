"""Commands that only look: Python collects garbage in cycles seldom, and as before afterwards."""

import gc

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.cli import preset_table
from pipeline.cli.command_line.looking_command import UNCOLLECTED_OBJECTS, rare_collections


def test_the_threshold_is_what_it_was_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="x"), rare_collections():
        assert gc.get_threshold() == (UNCOLLECTED_OBJECTS, *before[1:])
        raise ValueError("x")
    assert gc.get_threshold() == before
    assert gc.isenabled()


def test_garbage_in_cycles_stays_bounded() -> None:
    """Lists that hold themselves, three times as many as may wait: most are gone at the end."""
    gc.collect()
    with rare_collections():
        for _ in range(3 * UNCOLLECTED_OBJECTS):
            knot: list[object] = []
            knot.append(knot)
        waiting, *_ = gc.get_count()
    assert waiting <= UNCOLLECTED_OBJECTS


def test_looking_commands_run_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def look(*_: object) -> None:
        seen.append(gc.get_threshold()[0])

    # Nothing of this process is to be frozen when it ends.
    monkeypatch.setattr("atexit.register", lambda _: None)
    monkeypatch.setattr(preset_table, "show_presets", look)
    result = CliRunner().invoke(app, ["presets"])
    assert (result.exit_code, seen) == (0, [UNCOLLECTED_OBJECTS])
