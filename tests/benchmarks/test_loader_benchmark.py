"""`pipeline benchmark loader` on corpora so small that only its arithmetic can be looked at."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.benchmarks import loader as benchmark
from pipeline.benchmarks import loader_results, measure_loader
from pipeline.benchmarks.corpora import (
    END_OF_DOCUMENT,
    llama_mixture,
    make_config,
    write_random,
    write_simulated,
)
from pipeline.benchmarks.loader_results import Corpus, LoaderSizes
from pipeline.sampling.dataset import open_data
from pipeline.store.files import read_json
from pipeline.tokens.indexed_dataset import read

DATA = {"sequence_length": 8}
TINY = LoaderSizes(
    corpora=(
        Corpus("small", 10_000, 10),
        Corpus("middle", 50_000, 40),
        Corpus("large", 10**12, 200),
    ),
    resumed_sample=5_000_000,
    sequence_length=8,
    real_tokens=40_000,
    mean_document=5,
    batches=20,
    slow_steps=4,
    step_seconds=0.01,
    read_seconds=0.0001,
)


def test_a_simulated_corpus_has_its_tokens_and_files_in_proportion_and_takes_no_disk(
    tmp_path: Path,
) -> None:
    write_simulated(tmp_path, 10**12, 1000)
    data = open_data(make_config(tmp_path, llama_mixture(), DATA))
    tokens = {source.name: len(source.stream) for source in data.sources}
    files = {source.name: len(source.stream.paths) for source in data.sources}
    assert sum(tokens.values()) == pytest.approx(10**12, rel=1e-6)
    assert tokens["common_crawl"] == pytest.approx(0.67e12, rel=1e-6)
    assert files["common_crawl"] == 670 and sum(files.values()) == 1000
    on_disk = sum(path.stat().st_blocks * 512 for path in tmp_path.glob("tokens/*/*.bin"))
    assert on_disk == 0
    assert data.read(np.arange(5)).inputs.tolist() == [[0] * 8] * 5


def test_the_real_corpus_is_documents_with_their_ends(tmp_path: Path) -> None:
    write_random(tmp_path, 30_000, 20)
    shard = read(tmp_path / "tokens" / "web" / "train_000000_000")
    ids, ends = np.asarray(shard.ids), np.cumsum(shard.document_lengths())
    assert (np.flatnonzero(ids == END_OF_DOCUMENT) == ends - 1).all()
    assert ends[-1] == len(ids) >= 30_000
    assert np.diff(ends).mean() == pytest.approx(21.5, rel=0.1)


def test_parts_count_what_they_say(tmp_path: Path) -> None:
    write_random(tmp_path, 10_000, 20)
    tokens = (tmp_path / "tokens" / "web" / "train_000000_000.bin").stat().st_size // 2
    rows = -(-(tokens - 1) // 8)
    full = measure_loader.count_reads(tmp_path, DATA)
    assert (full["rows"], full["reads"]) == (rows, rows)
    assert full["bytes"] == 2 * (tokens - 1 + rows)  # each row has one id more than inputs
    block = measure_loader.count_reads(tmp_path, DATA | {"shuffle": "block"})
    assert (block["reads"], block["bytes"]) == (1, 2 * tokens)
    packed = measure_loader.measure_packing(tmp_path, DATA | {"packing": "best-fit"})
    index = next(tmp_path.glob("packing/*/web/*.rows")).stat().st_size
    assert packed["index_bytes_per_token"] == pytest.approx(index / tokens)
    for part in (
        measure_loader.read_by_position,
        measure_loader.read_located,
        measure_loader.take_from_loader,
    ):
        for data in (DATA, DATA | {"packing": "best-fit", "document_mask": True}):
            assert part(tmp_path, 70, data)["tokens_per_second"] > 0
    for part in (measure_loader.copy_mapped_rows, measure_loader.copy_and_keep_mapped_rows):
        assert part(tmp_path, 3, 8)["tokens_per_second"] > 0


def test_waiting_is_counted_after_the_first_step(tmp_path: Path) -> None:
    write_simulated(tmp_path, 100_000, 10)
    seen = measure_loader.measure_waiting(tmp_path, 5, 0.0, 0.02, DATA)
    assert seen["first_wait_seconds"] >= 8 * 0.02  # a micro-batch is read one row after another
    assert seen["waited"] == 1  # steps that take no time


def test_limits_and_ratios_are_of_the_medians() -> None:
    sizes = LoaderSizes()
    names = [
        f"{corpus.name}, sample {sample:,}"
        for corpus in sizes.corpora
        for sample in (0, 500_000_000)
    ]
    peaks = [100e6, 100e6, 101e6, 101e6, 130e6, 130e6, 500e6, 500e6]
    starts = {
        name: {"seconds": seconds, "peak_bytes": peak, "manifest_bytes": 10e6}
        for name, seconds, peak in zip(names, [0.1] * 5 + [1.5, 9.0, 9.0], peaks, strict=True)
    }
    rates = {
        loader_results.BARE: {"tokens_per_second": 80e6},
        loader_results.BARE_KEPT: {"tokens_per_second": 40e6},
        f"{loader_results.PLAIN_LOCATED}, full": {"tokens_per_second": 40e6},
        "loader, full": {"tokens_per_second": 19e6},
    }
    ratios = {
        bare: loader_results.rate_ratios(rates, bare)
        for bare in (loader_results.BARE, loader_results.BARE_KEPT)
    }
    assert list(ratios[loader_results.BARE].values()) == [1, 0.5, 0.5, 19 / 80]
    slow = {"slow files, full": {"waited": 0.004}, "slow files, block": {"waited": 0.006}}
    limits = loader_results.checked_limits(
        {"start": starts, "rates": rates, "ratios": ratios, "slow": slow}, sizes
    )
    assert [limit["measured"] for limit in limits] == [
        0.1,
        1.5,
        130e6,
        3,
        40e6,
        0.5,
        19e6,
        19 / 40,
        0.004,
        0.006,
    ]
    assert [limit["met"] for limit in limits] == [
        True,
        False,
        True,
        True,
        True,
        True,
        False,
        False,
        True,
        False,
    ]


@pytest.mark.ranks
@pytest.mark.full
def test_everything_is_measured_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    benchmark.benchmark_loader(1, tmp_path / "results.json", TINY)
    results = read_json(tmp_path / "results.json")
    assert all(
        values["peak_bytes"] > values["imported_bytes"] > 10**7
        for values in results["start"].values()
    )
    bare = results["rates"][loader_results.BARE]["tokens_per_second"]
    assert results["ratios"][loader_results.BARE]["loader, full"] == pytest.approx(
        results["rates"]["loader, full"]["tokens_per_second"] / bare
    )
    assert results["reads"]["block"]["reads"] == 1
    assert len(results["limits"]) == 10
    printed = capsys.readouterr().out
    assert "From after imports" in printed and "A GPU at 50 % MFU" in printed
    assert list((tmp_path / "scratch").iterdir()) == []
