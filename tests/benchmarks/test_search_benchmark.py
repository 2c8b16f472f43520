"""`pipeline benchmark search` on a corpus so small that only its arithmetic can be looked at."""

from pathlib import Path

import pytest
from helpers import run_stages

from pipeline.benchmarks.search import RANDOM_TEXTS, benchmark_search
from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.store.files import read_json


@pytest.mark.ranks
@pytest.mark.full
def test_every_part_is_measured(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages(run_file, ["prepare"], [])
    output = tmp_path / "results.json"
    benchmark_search(load(run_file), count=1, output=output)
    results = read_json(output)
    assert results["texts"] == RANDOM_TEXTS
    seconds = {part: figures["seconds"] for part, figures in results["medians"].items()}
    assert results["bytes_per_second"] == pytest.approx(
        results["text_bytes"] / (seconds["read Parquet"] + seconds["search"])
    )
    assert "MB/s a core (5 wanted: " in capsys.readouterr().out


def test_it_needs_documents(run_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `pipeline prepare` with this run file first"):
        benchmark_search(load(run_file), count=1, output=tmp_path / "x.json")
