"""Several files read as one array, with a bounded number of them open."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from token_files import write_stream

from pipeline.errors import DataError
from pipeline.sampling.stream import OpenFiles, TokenStream


def open_files(folder: Path) -> int:
    """Return how many files below a folder this process has open."""
    return sum(Path(file.path).is_relative_to(folder) for file in psutil.Process().open_files())


def test_reading_crosses_files(tmp_path: Path) -> None:
    tokens = write_stream(tmp_path, [3, 0, 1, 4])
    assert len(tokens) == 8
    for start in range(8):
        for count in range(9 - start):
            assert tokens.read(start, count).tolist() == list(range(start, start + count))


def test_pieces_come_one_after_another(tmp_path: Path) -> None:
    tokens = write_stream(tmp_path, [3, 0, 1, 4])
    assert tokens.read_pieces(np.array([6, 1, 0]), np.array([2, 4, 1])).tolist() == [
        6,
        7,
        1,
        2,
        3,
        4,
        0,
    ]
    assert tokens.read_pieces(np.zeros(0, int), np.zeros(0, int)).tolist() == []


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    tokens = write_stream(tmp_path, [4, 4])
    if damage == "missing":
        (tmp_path / "train_1.bin").unlink()
    else:
        os.truncate(tmp_path / "train_1.bin", 4)
    assert tokens.read(0, 4).tolist() == [0, 1, 2, 3]
    with pytest.raises(
        DataError, match=r"train_1\.bin: (ends after 4 bytes instead of 8|cannot be read)"
    ):
        tokens.read(0, 8)


@pytest.mark.parametrize(
    ("start", "count"), [(12, 1), (8, 5), (13, 2), (-1, 3)], ids=["at", "over", "behind", "before"]
)
def test_tokens_outside_of_the_stream_are_refused(tmp_path: Path, start: int, count: int) -> None:
    """A damaged index of packed rows may refer to them."""
    tokens = write_stream(tmp_path, [4, 4, 4])
    with pytest.raises(DataError, match=rf"tokens {start} to {start + count} were requested of 12"):
        tokens.read(start, count)
    assert tokens.read(8, 4).tolist() == [8, 9, 10, 11]


def test_no_more_files_are_open_than_allowed(tmp_path: Path) -> None:
    files = OpenFiles(most_open=5)
    tokens = [write_stream(tmp_path / name, [1] * 100, files=files) for name in ("a", "b")]
    for stream in tokens:
        for start in (*range(100), *reversed(range(100))):
            assert stream.read(start, 1).tolist() == [start]
            assert 0 < open_files(tmp_path) <= 5


def test_a_hundred_thousand_files_are_one_stream(tmp_path: Path) -> None:
    """One file under many names, so that the disk need not hold them."""
    (tmp_path / "real.bin").write_bytes(np.arange(8, dtype=np.uint16).tobytes())
    shards = []
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for i in range(10_000):
            path = tmp_path / str(folder) / f"{i}.bin"
            os.link(
                tmp_path / "real.bin", path
            ) if i % 100 == 0 else None  # the file system bounds links to one file
            shards.append((path if i % 100 == 0 else tmp_path / "real.bin", 8))
    tokens = TokenStream(shards, np.dtype(np.uint16), OpenFiles(most_open=64))
    assert len(tokens) == 800_000
    starts = np.random.default_rng(0).integers(0, 800_000 - 20, 2000)
    ids = tokens.read_pieces(starts, np.full(2000, 20)).reshape(2000, 20)
    np.testing.assert_array_equal(ids, (starts[:, None] + np.arange(20)) % 8)
    assert 0 < open_files(tmp_path) <= 64


def test_a_file_that_other_threads_drop_is_open_while_it_is_read(tmp_path: Path) -> None:
    """With room for one open file, every read closes the one that another thread has just got."""
    files = OpenFiles(1)
    tokens = write_stream(tmp_path, [4, 4, 4], files=files)
    with ThreadPoolExecutor(8) as pool:
        starts = [4 * (i % 3) for i in range(3000)]
        for start, found in zip(
            starts, pool.map(lambda start: tokens.read(start, 4).tolist(), starts), strict=True
        ):
            assert found == list(range(start, start + 4))
