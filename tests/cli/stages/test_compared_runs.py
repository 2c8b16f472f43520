"""`pipeline report --compare`: which runs it takes, what it refuses, what it writes."""

from pathlib import Path

import pytest
from runs_to_compare import begin_run
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.errors import DataError, UserError


def compare(*words: str) -> str:
    result = CliRunner().invoke(app, ["report", "--compare", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_runs_are_taken_by_folder_and_run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = begin_run(tmp_path / "a")
    begin_run(tmp_path / "b", "train.seed=7")
    compare(str(folder), str(tmp_path / "b" / "run.yaml"))
    page = (tmp_path / "comparison.html").read_text()
    assert '<td class="text differs">7</td>' in page
    compare(str(folder), str(tmp_path / "b" / "run"), "--output", "other.html")
    assert (tmp_path / "other.html").read_text() == page


def test_what_is_no_comparison_is_refused(tmp_path: Path) -> None:
    run = str(begin_run(tmp_path / "a"))
    with pytest.raises(UserError, match="give two runs or more"):
        compare(run)
    with pytest.raises(UserError, match="names a run that is already there"):
        compare(run, str(tmp_path / "a" / "run.yaml"))
    with pytest.raises(UserError, match=r"train.seed=1: --compare takes runs"):
        compare(run, "train.seed=1")
    with pytest.raises(DataError, match="holds no run"):
        compare(run, str(tmp_path))
    with pytest.raises(DataError, match="no such file or folder"):
        compare(run, str(tmp_path / "missing"))
    with pytest.raises(UserError, match="--output names the page of --compare"):
        words = ["report", run, "--output", str(tmp_path / "x.html")]
        result = CliRunner().invoke(app, words)
        assert result.exception is not None
        raise result.exception
