"""A cell on disk: whole or not there, read by others, made again where it is damaged."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cells_by_hand import answer, cell, question

from pipeline.errors import DataError
from pipeline.evaluation.cells import (
    damage_of,
    holds_cell,
    read_cell,
    stored_scores,
    warn_of_damaged_cells,
    whole_cells,
    write_cell,
)
from pipeline.store.files import read_json, write_json
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
        with pytest.raises(
            DataError, match=r"is damaged .* `pipeline evaluate` .* scores it again"
        ):
            read_cell(place)
    write_cell(place, cell(ITEMS))
    place.result.write_text("{")
    assert not holds_cell(place, "key")
    with pytest.raises(DataError, match="is damaged \\(no valid JSON\\)"):
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


def test_any_changed_byte_of_either_file_is_damage(place: CellPlace) -> None:
    write_cell(place, cell(ITEMS))
    for path in (place.rows, place.result):
        whole = path.read_bytes()
        positions = [position for position, byte in enumerate(whole) if byte not in b" \n"]
        for position in positions:
            changed = bytearray(whole)
            changed[position] ^= 1
            path.write_bytes(changed)
            assert damage_of(place) is not None, (path, position)
            assert not holds_cell(place, "key")
        path.write_bytes(whole)
    assert holds_cell(place, "key")


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"provenance": []}', '{"rows": {}}', "1"])
def test_json_that_is_no_cell_is_damage(place: CellPlace, content: str) -> None:
    write_cell(place, cell(ITEMS))
    place.result.write_text(content)
    assert not holds_cell(place, "key")
    with pytest.raises(DataError, match=r"is damaged \((it holds no cell|its checksum differs)\)"):
        read_cell(place)
    assert list(stored_scores(ScoresFolder(place.rows.parents[3]))) == []


def without_checksums(place: CellPlace) -> None:
    """Turn a cell into one as they were written before they had checksums."""
    stored = read_json(place.result)
    del stored["rows"], stored["checksum"]
    write_json(place.result, stored)


def test_a_cell_without_checksums_is_there_while_it_can_be_read(place: CellPlace) -> None:
    write_cell(place, cell(ITEMS))
    without_checksums(place)
    assert holds_cell(place, "key")
    assert read_cell(place) == cell(ITEMS)
    stored = read_json(place.result)
    for entry in ("step", "items", "title"):
        provenance = {key: value for key, value in stored["provenance"].items() if key != entry}
        write_json(place.result, stored | {"provenance": provenance})
        assert not holds_cell(place, "key")
    write_json(place.result, stored)
    place.rows.write_bytes(place.rows.read_bytes()[:-1])
    assert not holds_cell(place, "key")


def test_a_result_without_its_rows_is_damage_and_no_result_is_none(place: CellPlace) -> None:
    assert damage_of(place) is None
    write_cell(place, cell(ITEMS))
    assert damage_of(place) is None
    place.rows.unlink()
    assert damage_of(place) == (
        f"{place.rows}: is missing. `pipeline evaluate` with its model and task scores it again."
    )
    write_cell(place, cell(ITEMS))
    place.result.unlink()
    assert damage_of(place) is None
    with pytest.raises(DataError, match=r"k5-7\.json: is missing\. `pipeline evaluate`"):
        read_cell(place)


def test_damaged_cells_are_named_and_passed_over(
    place: CellPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = ScoresFolder(place.rows.parents[3]).cell("step_00000010", "task", 5, 8)
    write_cell(sound, cell(ITEMS))
    write_cell(place, cell(ITEMS))
    place.rows.write_bytes(b"x" + place.rows.read_bytes()[1:])
    assert whole_cells({"sound": sound, "broken": place}) == {"sound": sound}
    printed = capsys.readouterr().err
    assert printed.count("warning: passed over") == 1
    assert str(place.rows) in printed.replace("\n", "")
    warn_of_damaged_cells([sound, place])
    printed = " ".join(capsys.readouterr().err.split())
    assert printed.endswith("is damaged (its checksum differs). It is scored again now.")
    assert printed.count("warning: ") == 1


def test_cells_of_before_need_not_say_what_was_merged(tmp_path: Path) -> None:
    folder = ScoresFolder(tmp_path)
    place = folder.cell("m", "task", 0, 1234)
    plain = cell(ITEMS)
    del plain.result["provenance"]["merge"]
    write_cell(place, plain)
    assert read_cell(place).result["provenance"] == plain.result["provenance"]


def test_a_few_damaged_cells_are_named_and_the_others_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ScoresFolder(tmp_path)
    for shots in range(8):
        place = folder.cell("m", "task", shots, 1234)
        write_cell(place, cell(ITEMS))
        place.result.write_text("[]")
    assert list(stored_scores(folder)) == []
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 6
    assert warnings[-1] == "warning: passed over: and 3 more damaged cells"
