"""Core-hours of the data stages, by hand."""

from pathlib import Path

import pytest
from test_plan import SETTINGS, rates

from pipeline.config.run_file import load
from pipeline.planning.data_stages import DataPlan, data_core_hours, with_tokenizer_rates
from pipeline.planning.disk_use import data_size

HOUR = 3600


def test_core_hours_of_each_stage(run_file: Path) -> None:
    """4 bytes a token: 4.32 GB of text, a sample of 36 MB; 1.08e9 tokens are packed."""
    simple = rates(
        prepare_bytes_per_core_second=1.2e6,
        learn_bytes_per_core_second=1e4,
        tokenize_bytes_per_core_second=0.6e6,
        pack_tokens_per_core_second=3e5,
    )
    data = data_size(1.08e9, 1000, simple)
    config = load(run_file, [*SETTINGS, "tokenizer.sample_bytes=36000000"])
    assert data_core_hours(config, data, simple) == DataPlan(1, 1, 2, 0)
    packing = load(run_file, [*SETTINGS, "data.packing=best-fit"])
    hours = data_core_hours(packing, data, simple)
    assert hours.pack_core_hours == 1
    assert list(hours.of_stages()) == ["prepare", "train-tokenizer", "tokenize", "pack"]


def test_annotating_and_selecting_cost_where_they_are_asked_for(run_file: Path) -> None:
    """4 GB of text at 1 and 4 MB/s."""
    simple = rates(annotate_bytes_per_core_second=1e6, select_bytes_per_core_second=4e6)
    data = data_size(1e9, 1000, simple)
    assert "annotate" not in data_core_hours(load(run_file), data, simple).of_stages()
    curated = load(run_file, ["annotate={signals: c4}", "select={rules: [c4]}"])
    hours = data_core_hours(curated, data, simple)
    assert hours.annotate_core_hours * HOUR == pytest.approx(4000)
    assert hours.select_core_hours * HOUR == pytest.approx(1000)
    assert list(hours.of_stages())[:3] == ["prepare", "annotate", "select"]


def test_a_sample_is_no_larger_than_the_text(run_file: Path) -> None:
    data = data_size(1000, 1000, rates())
    simple = rates(learn_bytes_per_core_second=4000 / HOUR)
    assert data_core_hours(load(run_file), data, simple).train_tokenizer_core_hours == 1


def test_existing_ids_cost_nothing(run_file: Path) -> None:
    data = data_size(1e9, 1000, rates(), text_share=0.0)
    assert data_core_hours(load(run_file, SETTINGS), data, rates()).of_stages() == {}
    assert (data.tokens, data.document_bytes, data.token_bytes) == (1e9, 0, 0)


@pytest.mark.parametrize(
    ("kind", "megabytes"),
    [("byte-level-bpe", 189), ("sentencepiece-bpe", 42), ("sentencepiece-unigram", 1.9)],
)
def test_rates_are_those_of_the_kind_of_tokenizer(
    run_file: Path, kind: str, megabytes: float
) -> None:
    settings = [f"tokenizer.kind={kind}"]
    found = with_tokenizer_rates(rates(), load(run_file, settings)).tokenize_bytes_per_core_second
    assert (found.value, found.source) == (megabytes * 1e6, f"`tokenize` on one core, {kind}")
    reference = load(run_file, [*settings, "tokens.encoder=reference"])
    slow = with_tokenizer_rates(rates(), reference).tokenize_bytes_per_core_second
    assert slow.value == min(2e6, megabytes * 1e6)


def test_vocabularies_are_learned_at_measured_rates(run_file: Path) -> None:
    """50 MB took 103 s on two cores."""
    config = load(run_file, ["tokenizer.kind=sentencepiece-unigram"])
    found = with_tokenizer_rates(rates(), config).learn_bytes_per_core_second
    assert 50e6 / found.value == pytest.approx(206)


def test_an_existing_tokenizer_is_assumed_to_be_bpe(run_file: Path, tmp_path: Path) -> None:
    section = f"tokenizer={{kind: pretrained, path: {tmp_path}}}"
    config = load(run_file, [section])
    found = with_tokenizer_rates(rates(), config)
    assert found.tokenize_bytes_per_core_second.value == 42e6
    assert "not known" in found.tokenize_bytes_per_core_second.source
    hours = data_core_hours(config, data_size(1e9, 1000, found), found)
    assert list(hours.of_stages()) == ["prepare", "tokenize"]
