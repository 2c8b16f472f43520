"""Numbers as people read them, and progress where there is no terminal."""

from types import SimpleNamespace

import pytest

from pipeline import logs


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (3_240_000, "3.2 MB"),
        (5e9, "5.0 GB"),
        (1.2e15, "1200.0 TB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert logs.human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (12.34, "12.3 s"),
        (60, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3600, "1 h 00 min"),
        (11_220, "3 h 07 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert logs.human_seconds(seconds) == text


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 105.0, 110.0, 111.0, 120.0])
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with logs.progress("tokenize", 4000, "bytes") as update:
        for completed in (500, 1000, 1100, 2000):
            update(completed, "1 of 4 tasks")
    assert capsys.readouterr().err.splitlines() == [
        "tokenize: 1,000 of 4,000 bytes 1 of 4 tasks (30.0 s left)",  # 10 s for a quarter
        "tokenize: 2,000 of 4,000 bytes 1 of 4 tasks (20.0 s left)",  # 20 s for a half
    ]


def test_progress_that_has_not_begun_divides_by_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 60.0])
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with logs.progress("read", 10) as update:
        update(0, "")
    assert capsys.readouterr().err == ""


def test_messages_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    logs.note("a [bold]file[/bold] " + "x" * 200)
    logs.warn("[red]careful[/red]")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "a [bold]file[/bold] " + "x" * 200 + "\nwarning: [red]careful[/red]\n"
