"""`pipeline benchmark tokenize` on a corpus so small that only its arithmetic can be looked at."""

from pathlib import Path

import pytest
import zstandard
from helpers import run_stages

from pipeline.benchmarks import tokenize as benchmark
from pipeline.benchmarks.measure_conversion import measure_conversion
from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.store.files import read_json


@pytest.mark.ranks
@pytest.mark.full
def test_every_part_is_measured_and_nothing_is_left(
    run_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_stages(run_file, ["prepare", "train-tokenizer"], [])
    monkeypatch.setattr(benchmark, "LARGE_DOCUMENT_BYTES", 100_000)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))  # which torch keeps
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    output = tmp_path / "results.json"
    benchmark.benchmark_tokenize(load(run_file), count=1, repeat=3, megatron=None, output=output)
    results = read_json(output)
    assert results["text_bytes"] == sum(
        sum(s["text_bytes"].values())
        for s in read_json(run_file.parent / "data" / "documents" / "manifest.json")["counts"][
            "sources"
        ].values()
    )
    tokens = results["tokens"]
    assert (
        results["large"]["corpus x 3, 1 worker"]["tokens"]
        == results["large"]["corpus x 3, 2 workers"]["tokens"]
        == 3 * tokens
    )
    assert results["large"]["with a document of 200 MB, 1 worker"]["tokens"] > tokens + 20_000
    medians = results["medians"]
    assert results["ratios"]["corpus x 3: stage / gigatoken in memory, 1 thread"] == pytest.approx(
        results["large"]["corpus x 3, gigatoken in memory, 1 thread"]["seconds"]
        / results["large"]["corpus x 3, 1 worker"]["seconds"]
    )
    assert results["ratios"]["stage / gigatoken in memory, 1 thread"] == pytest.approx(
        medians["gigatoken in memory, 1 thread"]["seconds"]
        / medians["whole stage, 1 worker"]["seconds"]
    )
    assert all(
        values["peak_bytes"] > 10**7 for values in [*medians.values(), *results["large"].values()]
    )
    printed = capsys.readouterr().out
    assert "start, comparison, the rest" in printed and "core-hours of tokenize" in printed
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_barest_loop_counts_its_imports_apart(tmp_path: Path) -> None:
    plain = tmp_path / "a.jsonl"
    plain.write_bytes(b'{"text":"a","meta":{"url":"u"}}\n{"text":"b"}\n')
    packed = tmp_path / "a.jsonl.zst"
    packed.write_bytes(zstandard.compress(plain.read_bytes()) * 2)
    measured = measure_conversion([plain, packed])
    assert 0 < measured["loop_seconds"] < measured["seconds"]
    assert measured["documents"] == 6  # two, and twice two


def test_it_needs_documents_and_a_tokenizer(run_file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="run `pipeline prepare` and `train-tokenizer` with this run file first"
    ):
        benchmark.benchmark_tokenize(
            load(run_file), count=1, repeat=1, megatron=None, output=tmp_path / "x.json"
        )
