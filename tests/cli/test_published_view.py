"""What `pipeline plan --published` prints: a line a run, the planned one in its place."""

import json
import re
from pathlib import Path

import pytest

from pipeline.cli.published_view import LANDMARKS, show_published
from pipeline.planning.published import PlannedPoint, published_runs

PLANNED = PlannedPoint("mine", 1e21, 2023.4, 5_000.0)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_the_table_has_a_line_a_run_and_is_readable_at_100_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_published(None, as_json=False, page=None)
    lines = lines_of(capsys)
    assert max(len(line) for line in lines) <= 100
    assert "…" not in "".join(lines)
    names = [run.name for run in published_runs()]
    assert [line[: len(name)] for line, name in zip(lines[1:], names, strict=False)] == names
    gpt3 = next(line for line in lines if line.startswith("GPT-3 175B"))
    assert gpt3.split() == [
        "GPT-3", "175B", "2020-05", "175B", "300B", "3.14e23", "=3,552,000", "10,000", "V100",
        "0.20", "quoted",
    ]  # fmt: skip


def test_flops_carry_the_letter_of_their_count(capsys: pytest.CaptureFixture[str]) -> None:
    show_published(None, as_json=False, page=None)
    printed = "\n".join(lines_of(capsys))
    assert re.search(r"^GPT-4 .* 2\.10e25e ", printed, re.MULTILINE)
    assert re.search(r"^openCLIP ViT-L/14 +2022 .* 6\.86e21m +50,800 ", printed, re.MULTILINE)
    assert re.search(r"^LaMDA 137B .* 3\.55e23p ", printed, re.MULTILINE)
    assert re.search(r"^LLaMA 1 7B .* 4\.02e22 +82,432 ", printed, re.MULTILINE)


def test_the_planned_run_stands_by_year_and_flops(capsys: pytest.CaptureFixture[str]) -> None:
    show_published(PLANNED, as_json=False, page=None)
    lines = lines_of(capsys)
    place = next(number for number, line in enumerate(lines) if line.startswith("★ mine"))
    assert lines[place - 1].startswith("Pythia 410M")  # 7.29e20
    assert lines[place + 1].startswith("Pythia 1B")  # 1.82e21
    assert "1.00e21" in lines[place]
    assert "5,000" in lines[place]


def test_a_planned_run_of_a_later_year_is_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    show_published(PlannedPoint("mine", 1e21, 2040.0, None), as_json=False, page=None)
    lines = lines_of(capsys)
    assert lines[len(published_runs()) + 1].startswith("★ mine")


def test_json_has_all_columns_and_what_follows(capsys: pytest.CaptureFixture[str]) -> None:
    show_published(PLANNED, as_json=True, page=None)
    answer = json.loads(capsys.readouterr().out)
    assert answer["planned"] == {
        "name": "mine", "flops": 1e21, "year": 2023.4, "gpu_hours": 5000.0,
    }  # fmt: skip
    assert len(answer["runs"]) == len(published_runs())
    pythia = next(run for run in answer["runs"] if run["name"] == "Pythia 70M")
    assert pythia["flops_count"] == "6 N D"
    assert pythia["implied_mfu"] == pytest.approx(0.2212, abs=1e-4)
    assert pythia["hours_contain"].startswith("steps only")
    assert "arXiv:2304.01373" in pythia["source"]


def test_landmarks_are_runs_of_the_table() -> None:
    assert set(LANDMARKS) <= {run.name for run in published_runs()}


def test_the_page_shows_the_figure_and_every_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "published.html"
    show_published(PLANNED, as_json=False, page=page)
    assert f"wrote {page}" in capsys.readouterr().err
    text = page.read_text()
    assert ">mine</text>" in text
    assert "★ mine" in text
    assert text.count("<svg") == 1
    for run in published_runs():
        assert text.count(f">{run.name}</td>") == 2
