"""The arithmetic of `pipeline benchmark curate`, its sample, and all of it on a few documents."""

from pathlib import Path

import orjson
import pytest

from pipeline.benchmarks.curating import curate, curate_memory
from pipeline.benchmarks.curating.curate_memory import peak_bytes, with_other_words
from pipeline.benchmarks.curating.curate_results import (
    ALONE,
    CONTAMINATION,
    EVERYTHING,
    MINHASH,
    PUBLISHED_BANDS,
    SIGNALS,
    THEIR_MINHASH,
    THEIR_SIGNALS,
    WITH_PUBLISHED,
    CurateResults,
    client_growth,
    core_hours,
    median_seconds,
    projections,
    rate_ratios,
    share_of_sum,
    show_curate_results,
)
from pipeline.benchmarks.curating.measured_corpus import make_corpus, sampled_texts
from pipeline.benchmarks.curating.redpajama_code import VARIABLE, published_code
from pipeline.config.run_file import load
from pipeline.errors import DataError, Interrupted, UserError
from pipeline.store.files import read_json

SECONDS = dict.fromkeys(ALONE, 1.0) | {
    SIGNALS: 4.0,
    EVERYTHING: 7.0,
    WITH_PUBLISHED: 2.0,
    PUBLISHED_BANDS: 2.0,
    THEIR_SIGNALS: 10.0,
    THEIR_MINHASH: 6.0,
}


def test_core_hours_by_hand() -> None:
    # 5 TB at 1 MB/s are 5 million seconds.
    assert core_hours(5e12, 1e6) == pytest.approx(5e6 / 3600)
    # 10 MB in 7 and in 2 seconds; RedPajama-v2: 30.4 T tokens of 5/1.2 bytes.
    hours = projections(SECONDS, 10_000_000)
    assert hours["RedPajama-1T"] == pytest.approx(5e12 * 7 / 1e7 / 3600)
    assert hours["RedPajama-v2"] == pytest.approx(30.4e12 * 5 / 1.2 * 2 / 1e7 / 3600)
    assert projections({SIGNALS: 1.0}, 1) == {}


def test_ratios_by_hand() -> None:
    assert median_seconds({"a": [3.0, 1.0, 2.0], "b": []}) == {"a": 2.0}
    # Six parts of one second and one of four.
    assert share_of_sum(SECONDS) == pytest.approx(0.7)
    assert rate_ratios(SECONDS) == {
        f"{SIGNALS} / {THEIR_SIGNALS}": 2.5,
        f"{MINHASH} / {THEIR_MINHASH}": 6.0,
        f"{PUBLISHED_BANDS} / {THEIR_MINHASH}": 3.0,
    }


def test_nothing_is_said_of_parts_that_are_missing() -> None:
    without = {name: seconds for name, seconds in SECONDS.items() if name != CONTAMINATION}
    assert share_of_sum(without) is None
    assert rate_ratios({SIGNALS: 1.0}) == {}


def test_the_growth_of_the_client() -> None:
    memory = {
        "annotate, 1 x": {"shards": 1, "client_bytes": 100.0},
        "annotate, 10 x": {"shards": 10, "client_bytes": 105.0},
        "select, 1 x": {"shards": 1, "client_bytes": 100.0},
    }
    assert client_growth(memory) == {"annotate": 1.05}


def test_verdicts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {
        "text_bytes": 1e7,
        "shards": 1,
        "worker_bytes": 2e9,
        "client_bytes": 1e8,
        "seconds": 1.0,
    }
    results: CurateResults = {
        "corpus": "a corpus",
        "documents": 100,
        "text_bytes": 10_000_000,
        "rounds": {name: [seconds] for name, seconds in SECONDS.items()},
        "share_of_sum": share_of_sum(SECONDS),
        "ratios": rate_ratios(SECONDS),
        "core_hours": projections(SECONDS, 10_000_000),
        "memory": {"annotate, 1 x": figures},
    }
    show_curate_results(results)
    printed = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in printed.splitlines()}
    assert rows[SIGNALS][1:] == ["2.50", "2.50", "2.50", "1", "2", "met"]
    assert rows[f"{SIGNALS} / {THEIR_SIGNALS}, rates"][-3:] == ["2.50", "3", "MISSED"]
    assert rows["annotate, 1 x"][-4] == "MISSED"
    assert "972 core-hours of annotate (under 1,500 wanted: met)" in " ".join(printed.split())


def test_copies_share_no_word() -> None:
    assert with_other_words("One, two.\n", 0) == "One, two.\n"
    assert with_other_words("One, two.\n", 3) == "One3, two3.\n"


def test_memory_of_a_process_that_is_gone() -> None:
    assert peak_bytes(2**31 - 1) == 0


def test_a_corpus_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a run file nor a folder"):
        make_corpus(tmp_path / "nowhere", 1, tmp_path)


def test_a_run_file_without_documents(run_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `pipeline prepare"):
        make_corpus(run_file, 1, tmp_path)


def test_a_checkout_of_something_else(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="checkout of togethercomputer/RedPajama-Data"),
        published_code(tmp_path),
    ):
        pass


@pytest.mark.ranks
@pytest.mark.full
def test_every_part_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    raw = tmp_path / "raw" / "some.jsonl"
    raw.parent.mkdir()
    rows = [
        orjson.dumps({"text": f"Document {number} of a few, with its own words. " * 20})
        for number in range(60)
    ]
    raw.write_bytes(b"\n".join(rows))
    output = tmp_path / "results.json"
    monkeypatch.setattr(curate_memory, "FULL_SHARD_BYTES", 100_000)
    curate.benchmark_curate(raw.parent, count=1, megabytes=1, repeat=2, output=output)
    results = read_json(output)
    assert results["documents"] == 60
    assert {*ALONE, EVERYTHING, PUBLISHED_BANDS} <= results["rounds"].keys()
    assert {"annotate, 1 x", "annotate, 2 x", "select, 2 x"} <= results["memory"].keys()
    for figures in results["memory"].values():
        assert figures["client_bytes"] > 10_000_000
    assert results["memory"]["annotate, 2 x"]["worker_bytes"] > 10_000_000
    assert "core-hours of annotate" in capsys.readouterr().out

    # Interrupted in its third part, it shows and writes what there is.
    calls: list[str] = []

    def interrupt(function: str, arguments: object) -> float:
        calls.append(function)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(curate, "_measure", interrupt)
    with pytest.raises(Interrupted):
        curate.benchmark_curate(raw.parent, count=1, megabytes=1, repeat=2, output=output)
    rounds = read_json(output)["rounds"]
    assert [name for name, seconds in rounds.items() if seconds] == [*rounds][:2]

    # A sample takes no more than it may, and some of the documents of all.
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    corpus = make_corpus(raw.parent, 1, scratch)
    texts = sampled_texts(load(corpus.run_file, needs=()), 10_000)
    assert 0 < sum(map(len, texts)) <= 10_000
