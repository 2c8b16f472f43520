"""The files of URLs on fsspec's file system in memory: once a process, by folder, glob and name."""

from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from pipeline.config.urls import Url
from pipeline.corpus.remote.connection import NoAnswer
from pipeline.corpus.remote.listing import (
    IDENTITIES,
    FolderNames,
    ServerFile,
    forget_listings,
    list_url,
    names_at,
    version_of,
)


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    forget_listings()
    for name in ("c/a.txt", "c/d/b.txt", "c/d/.h.txt", "c/[x].txt"):
        system.pipe(f"/{name}", name.encode())
    yield system
    system.rm("/c", recursive=True)
    forget_listings()


@pytest.mark.parametrize(
    ("url", "below"),
    [
        ("memory://c", ["[x].txt", "a.txt", "d/.h.txt", "d/b.txt"]),
        ("memory://c/d", [".h.txt", "b.txt"]),
        ("memory://c/*.txt", ["[x].txt", "a.txt"]),
        ("memory://c/**/*.txt", ["[x].txt", "a.txt", "d/b.txt"]),
        ("memory://c/*", ["[x].txt", "a.txt", "d/.h.txt", "d/b.txt"]),
        ("memory://c/a.txt", [None]),
        ("memory://c/[x].txt", [None]),
        ("memory://c/[ab].txt", ["a.txt"]),
        ("memory://c/no*", []),
        ("memory://nothing", []),
    ],
)
def test_an_entry_gives_its_files(memory: Any, url: str, below: list[str | None]) -> None:
    assert sorted(each.below or "" for each in list_url(Url(url)).files) == [b or "" for b in below]


def test_an_entry_is_listed_once_in_a_process(memory: Any) -> None:
    before = list_url(Url("memory://c"))
    memory.pipe("/c/new.txt", b"new")
    assert list_url(Url("memory://c")) is before
    forget_listings()
    assert len(list_url(Url("memory://c")).files) == len(before.files) + 1


def test_the_names_in_a_folder_are_asked_for_once_and_without_those_below(memory: Any) -> None:
    memory.pipe("/c/.hidden", b"")
    names = names_at(Url("memory://c"))
    assert names == FolderNames(["d"], ["[x].txt", "a.txt"])
    memory.pipe("/c/new.txt", b"new")
    assert names_at(Url("memory://c")) is names
    assert names_at(Url("memory://nothing")) == FolderNames([], [])


def test_a_server_that_does_not_answer_is_waited_for_once(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Url] = []

    def wait(url: Url, seconds: float, request: Any) -> None:
        asked.append(url)
        raise NoAnswer(f"{url} does not answer")

    monkeypatch.setattr("pipeline.corpus.remote.listing.ask", wait)
    for name in ("memory://c/a", "memory://c/a", "memory://c/d", "memory://other/a"):
        with pytest.raises(NoAnswer):
            list_url(Url(name))
        with pytest.raises(NoAnswer):
            names_at(Url(name))
    assert asked == [Url("memory://c/a"), Url("memory://other/a")]


def test_a_file_has_its_size_and_its_version(memory: Any) -> None:
    (listed,) = list_url(Url("memory://c/a.txt")).files
    assert isinstance(listed.file, ServerFile)
    assert listed.file.size == 7 and listed.file.version.startswith("created ")


def test_the_surest_identity_is_taken() -> None:
    info = {key: f'"{key}"' for key in reversed(IDENTITIES)}
    assert version_of(info) == "ETag ETag"
    assert version_of({"size": 3}) == ""
