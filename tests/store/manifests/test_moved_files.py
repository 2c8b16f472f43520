"""Files of shards that are moved into parts of a folder and back, also when that is interrupted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.store.layout import task_records
from pipeline.store.manifests.moved_files import existing_place, settle_files, stage_folder_of
from pipeline.store.manifests.shard_places import placed

NAMES = [f"train_{key:02x}1b2c3d4e5f_000" for key in (0, 0, 10, 255)]
SUFFIXES = (".parquet", ".keys")
FILES = sorted({file for name in NAMES for file in (f"{name}.parquet", f".{name}.keys")})
PARTS = {file: placed(f"web/{file}", True).removeprefix("web/") for file in FILES}


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "documents" / "web"
    folder.mkdir(parents=True)
    for name in (*FILES, ".files.json"):
        (folder / name).write_text(name)
    return folder


def lying(folder: Path) -> list[str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.read_text() == path.name for path in paths)
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_files_move_into_parts_and_back(web: Path) -> None:
    flat = lying(web)
    inodes = {path.name: path.stat().st_ino for path in web.rglob("*") if path.is_file()}
    assert settle_files(web, SUFFIXES, in_parts=False) == 0
    assert settle_files(web, SUFFIXES, in_parts=True) == len(FILES)
    assert lying(web) == sorted([*PARTS.values(), ".files.json"])
    assert settle_files(web, SUFFIXES, in_parts=True) == 0
    assert {path.name: path.stat().st_ino for path in web.rglob("*") if path.is_file()} == inodes
    assert settle_files(web, SUFFIXES, in_parts=False) == len(FILES)
    assert lying(web) == flat
    assert not [path for path in web.iterdir() if path.is_dir()]
    assert settle_files(web / "absent", SUFFIXES, in_parts=True) == 0


def dying_after(renames: int) -> Callable[[Path, Path], Path]:
    left = iter(range(renames))
    rename = Path.rename

    def dies(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rename(path, target)

    return dies


@pytest.mark.parametrize("in_parts", [True, False])
def test_killed_between_any_two_renames_the_next_run_moves_the_rest(
    web: Path, in_parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_files(web, SUFFIXES, in_parts=not in_parts)
    for renames in range(len(FILES)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "rename", dying_after(renames))
            settle_files(web, SUFFIXES, in_parts)
        # No file is lost, and each is found wherever it lies.
        assert {Path(name).name for name in lying(web)} == {*FILES, ".files.json"}
        assert all(existing_place(web / file).is_file() for file in FILES)
        assert all(existing_place(web / path).is_file() for path in PARTS.values())
        settle_files(web, SUFFIXES, in_parts)
        settle_files(web, SUFFIXES, in_parts=not in_parts)
    settle_files(web, SUFFIXES, in_parts)
    assert (PARTS[FILES[0]] in lying(web)) == in_parts


def test_a_file_at_both_places_is_made_again(web: Path) -> None:
    settle_files(web, SUFFIXES, in_parts=True)
    (web / FILES[0]).write_text("of a worker that outlived its run")
    settle_files(web, SUFFIXES, in_parts=True)
    assert existing_place(web / FILES[0]) == web / FILES[0]
    assert not (web / FILES[0]).exists()
    assert lying(web) == sorted([*(PARTS[file] for file in FILES[1:]), ".files.json"])


def test_links_move_and_other_files_stay(web: Path, tmp_path: Path) -> None:
    (tmp_path / "far.bin").write_text("far")
    (web / "train_my.corpus.bin").symlink_to(tmp_path / "far.bin")
    (web / "notes.txt").write_text("notes.txt")
    settle_files(web, (".bin",), in_parts=True)
    moved = existing_place(web / "train_my.corpus.bin")
    assert moved.parent.parent == web and moved.read_text() == "far" and moved.is_symlink()
    settle_files(web, (".bin",), in_parts=False)
    assert (web / "train_my.corpus.bin").is_symlink() and (web / "notes.txt").is_file()


def test_the_stage_of_a_file_is_found_whatever_its_source_is_called(tmp_path: Path) -> None:
    name = NAMES[2]
    assert placed(f"web/{name}.bin", True) == f"web/0a/{name}.bin"
    tokens = tmp_path / "tokens"
    assert stage_folder_of(tokens / "web" / f"{name}.bin") == tokens
    assert stage_folder_of(tokens / "web" / "0a" / f"{name}.bin") == tokens
    # A source may be called as the part would be.
    task_records(tokens).mkdir(parents=True)
    assert stage_folder_of(tokens / "0a" / f"{name}.bin") == tokens
    assert stage_folder_of(tokens / "0a" / "0a" / f"{name}.bin") == tokens
