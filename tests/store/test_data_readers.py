"""Who reads a data_dir: a run that lives is told to who changes the data, a dead one is not, and
nothing is in the way."""

import json
import os
from pathlib import Path

import pytest
from helpers import run_stages

from pipeline.store.data_readers import live_readers, marked_as_reader
from pipeline.store.files import write_json
from pipeline.store.layout import LEASE
from pipeline.store.lease import STALE_SECONDS, Lease


def test_a_run_is_a_reader_while_it_works(tmp_path: Path) -> None:
    data_dir, run_dir = tmp_path / "data", tmp_path / "run"
    with Lease(run_dir, "pipeline train"), marked_as_reader(data_dir, run_dir):
        (reader,) = live_readers(data_dir)
        assert reader.run_dir == run_dir and reader.holder["pid"] == os.getpid()
        assert "pipeline train" in str(reader) and str(run_dir) in str(reader)
    assert live_readers(data_dir) == [] and list((data_dir / ".readers").iterdir()) == []


@pytest.mark.parametrize("age", [0, STALE_SECONDS + 30])
def test_the_mark_of_a_run_elsewhere_lives_as_long_as_its_lease(tmp_path: Path, age: float) -> None:
    data_dir, run_dir = tmp_path / "data", tmp_path / "run"
    run_dir.mkdir()
    lease = run_dir / LEASE
    lease.write_text(
        json.dumps({"host": "node17", "boot": "b", "pid": 1, "purpose": "pipeline train"})
    )
    stamp = lease.stat().st_mtime - age
    os.utime(lease, (stamp, stamp))
    write_json(data_dir / ".readers" / "a.json", {"run_dir": str(run_dir)})
    assert [reader.holder["host"] for reader in live_readers(data_dir)] == (
        ["node17"] if age == 0 else []
    )
    assert (data_dir / ".readers" / "a.json").exists() == (age == 0)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"run_dir": 3}', b"\xff", b'{"run_dir": "gone"}', b'"\\ud800"']
)
def test_a_mark_that_says_nothing_is_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".readers").mkdir()
    (tmp_path / ".readers" / "a.json").write_bytes(content)
    assert live_readers(tmp_path) == []


def test_where_data_may_not_be_written_a_run_works_without_a_mark(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".readers").write_text("a file is in the way, as permissions may be")
    with (
        Lease(tmp_path / "run", "pipeline train"),
        marked_as_reader(tmp_path / "data", tmp_path / "run"),
    ):
        assert live_readers(tmp_path / "data") == []


def test_stages_that_change_the_data_of_a_live_run_say_so(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_file.parent
    stages = ["prepare", "train-tokenizer", "tokenize"]
    run_stages(run_file, stages, [])
    with (folder / "web.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    capsys.readouterr()
    with (
        Lease(folder / "elsewhere", "pipeline train"),
        marked_as_reader(folder / "data", folder / "elsewhere"),
    ):
        run_stages(run_file, stages, [])
        told = [
            line
            for line in capsys.readouterr().err.splitlines()
            if str(folder / "elsewhere") in line
        ]
        assert [line.split()[1] for line in told] == [
            "prepare:",
            "tokenize:",
        ]  # the tokenizer is kept
        run_stages(run_file, stages, [])
        assert str(folder / "elsewhere") not in capsys.readouterr().err  # nothing is changed
    (folder / "web.jsonl").write_text('{"text": "anew"}\n{"text": "and more"}\n')
    run_stages(run_file, ["prepare"], [])
    assert str(folder / "elsewhere") not in capsys.readouterr().err
