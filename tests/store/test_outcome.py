"""What ranks and supervisor write for each other."""

import json
from pathlib import Path

import pytest

from pipeline.store.outcome import delete_outcome, has_outcome, read_outcome, write_outcome
from pipeline.store.start_order import (
    StartOrderUnclear,
    read_start_order,
    remove_start_order,
    supervisor_of_this_rank,
    write_start_order,
)


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert (has_outcome(tmp_path), read_outcome(tmp_path)) == (False, None)
    write_outcome(tmp_path, {"status": "rolled back", "step": 4})
    assert has_outcome(tmp_path)
    assert read_outcome(tmp_path) == {"status": "rolled back", "step": 4}
    assert json.loads((tmp_path / "outcome.json").read_text()) == read_outcome(tmp_path)
    delete_outcome(tmp_path)
    delete_outcome(tmp_path)
    assert read_outcome(tmp_path) is None


def test_a_start_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_start_order(tmp_path) is None
    write_start_order(tmp_path, {"start": "ab", "stop": True})
    assert read_start_order(tmp_path) == {"start": "ab", "stop": True}
    remove_start_order(tmp_path)
    remove_start_order(tmp_path)
    assert read_start_order(tmp_path) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff", b'{"stop": true}', b'{"start": "a", "stop": 1}']
)
def test_a_damaged_start_order_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".start.json").write_bytes(content)
    with pytest.raises(StartOrderUnclear):
        read_start_order(tmp_path)


def test_who_started_a_rank_comes_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_SUPERVISOR", raising=False)
    assert supervisor_of_this_rank() is None
    monkeypatch.setenv("PIPELINE_SUPERVISOR", '{"start": "ab", "pid": 1}')
    assert supervisor_of_this_rank() == {"start": "ab", "pid": 1}
