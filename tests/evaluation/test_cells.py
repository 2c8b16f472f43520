"""A cell on disk: whole or not there, read by others, made again where it is damaged."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cells_by_hand import answer, cell, question

from pipeline.errors import DataError
from pipeline.evaluation.cells import holds_cell, read_cell, stored_scores, write_cell
from pipeline.store.scores_folder import CellPlace, ScoresFolder


@pytest.fixture
def place(tmp_path: Path) -> CellPlace:
    return ScoresFolder(tmp_path).cell("step_00000010", "task", 5, 7)


ITEMS = [
    question(0, [answer(-1.5, "ä", 2, -3.0), answer(-2.5, "b", 1)], [1], acc=1.0, f1=0.5),
    question(1, [], [], exact_match=0.0) | {"written": "a text", "cut": True},
]


def test_what_is_written_is_read(place: CellPlace) -> None:
    assert place.rows.name == "k5-7.parquet"
    write_cell(place, cell(ITEMS))
    assert read_cell(place) == cell(ITEMS)
    rows = pq.read_table(place.rows).to_pylist()
    assert rows[0]["answers"][0] == answer(-1.5, "ä", 2, -3.0)


def test_the_key_decides_whether_a_cell_is_there(place: CellPlace) -> None:
    assert not holds_cell(place, "key")
    write_cell(place, cell(ITEMS))
    assert holds_cell(place, "key")
    assert not holds_cell(place, "another")


def test_a_damaged_cell_is_not_there_and_its_remedy_is_named(place: CellPlace) -> None:
    write_cell(place, cell(ITEMS))
    whole = place.rows.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no parquet"):
        place.rows.write_bytes(content)
        assert not holds_cell(place, "key")
        with pytest.raises(DataError, match=r"is damaged .* run `pipeline evaluate` again"):
            read_cell(place)
    write_cell(place, cell(ITEMS))
    place.result.write_text("{")
    assert not holds_cell(place, "key")
    with pytest.raises(DataError, match="is missing or damaged"):
        read_cell(place)
    write_cell(place, cell(ITEMS))
    assert holds_cell(place, "key")


def test_a_damaged_cell_stops_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ScoresFolder(tmp_path)
    sound = folder.cell("step_00000010", "task", 0, 1234)
    broken = folder.cell("step_00000020", "task", 0, 1234)
    write_cell(sound, cell(ITEMS))
    write_cell(broken, cell(ITEMS))
    broken.rows.write_bytes(b"")
    assert [place for place, _ in stored_scores(folder)] == [sound]
    assert str(broken.rows) in " ".join(capsys.readouterr().err.split())


def test_a_cell_with_fewer_rows_than_its_result_says_is_not_there(place: CellPlace) -> None:
    write_cell(place, cell(ITEMS))
    pq.write_table(pq.read_table(place.rows).slice(0, 1), place.rows)
    assert not holds_cell(place, "key")
