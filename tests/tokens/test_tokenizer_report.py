"""The tokenizer report on texts whose tokens can be counted by eye."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    DATA_STAGES,
    run_stages,
    write_byte_level_tokenizer,
    write_documents,
    write_sentencepiece_tokenizer,
)

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.selecting.kept_documents import all_documents
from pipeline.errors import DataError
from pipeline.store.artifacts import expected_inputs
from pipeline.store.files import read_json, write_json
from pipeline.store.manifests.recorded_settings import differences
from pipeline.store.stages import STAGES
from pipeline.tokens.encode import SEPARATOR, Encoder
from pipeline.tokens.tokenizer_report import (
    compared_files,
    count_ids,
    count_ids_fast,
    measured_texts,
    tokenizer_report,
)
from pipeline.tokens.tokenizer_tables import piece_text, tables

TEXT = "ab ab é\n"
"""`ab| ab| |C3|A9|\\n`: 6 tokens of 9 bytes, 8 characters, 3 words; 5 without the line feed."""


def prepare(run_file: Path, write: Callable[[Path], None], *overrides: str) -> RunConfig:
    """Write documents, tokenizer and their manifests."""
    config = load(run_file, overrides)
    data = config.paths.data_dir
    write_documents(data, "web", "validation", [TEXT])
    write(data / "tokenizer")
    for name, output in (("documents", "d"), ("tokenizer", write.__name__)):
        manifest = read_json(data / name / "manifest.json") or {}
        write_json(
            data / name / "manifest.json",
            manifest | {"output": output, "counts": {"vocab_size": 300}},
        )
    return config


@pytest.mark.parametrize(
    ("write", "fallback"),
    [
        (write_byte_level_tokenizer, 2),  # the two bytes of é
        (write_sentencepiece_tokenizer, 3),  # and the line feed, for which there is no other piece
    ],
)
def test_rates_by_hand(run_file: Path, write: Callable[[Path], None], fallback: int) -> None:
    report = tokenizer_report(prepare(run_file, write))
    size = {"documents": 1, "bytes": 9, "characters": 8, "words": 3, "held_out_bytes": 9}
    assert report["sample"]["sources"] == {"web": size}
    rates = {
        "tokens": 6,
        "bytes_per_token": 9 / 6,
        "characters_per_token": 8 / 6,
        "tokens_per_word": 6 / 3,
        "byte_fallback_share": fallback / 6,
        "single_byte_share": 4 / 6,
    }
    assert report["tokenizer"]["sources"] == {"web": rates}
    assert report["tokenizer"]["all"] == rates
    assert report["tokenizer"]["frequent_pieces"][0]["share"] == 1 / 6


@pytest.mark.parametrize("write", [write_byte_level_tokenizer, write_sentencepiece_tokenizer])
@pytest.mark.parametrize(
    "texts", [[], [TEXT], ["a<|endoftext|>b", "", "\u2581 \U0001f642ab", SEPARATOR]]
)
def test_gigatoken_counts_the_ids_of_the_reference(
    tmp_path: Path, write: Callable[[Path], None], texts: list[str]
) -> None:
    write(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"eos_token": "<|endoftext|>"})
    slow = count_ids(tmp_path / "tokenizer.json", texts)
    fast = count_ids_fast(tmp_path, texts)
    assert fast is not None
    assert fast.tolist() == slow.tolist()


def test_one_difference_leaves_the_counting_to_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_byte_level_tokenizer(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"eos_token": "<|endoftext|>"})
    monkeypatch.setattr(Encoder, "count_differences", lambda self, texts: 1)
    assert count_ids_fast(tmp_path, [TEXT]) is None


def test_the_vocabulary(run_file: Path) -> None:
    own = tokenizer_report(prepare(run_file, write_byte_level_tokenizer))["tokenizer"]
    assert (own["vocab_size"], own["single_byte_pieces"]) == (259, 256)
    assert own["special"] == [{"id": 0, "text": "<|endoftext|>"}]
    assert own["unused_in_sample"] == 258 - 6  # the end-of-document token is not counted as unused
    assert own["unused_share"] == 252 / 258
    first, second, third = own["longest_pieces"][:3]
    assert first == {"id": 258, "text": " ab", "characters": 3}
    assert second == {"id": 257, "text": "ab", "characters": 2}
    assert (third["id"], third["characters"]) == (1, 1)


def test_held_out_documents_come_first_and_the_limit_holds(tmp_path: Path) -> None:
    write_documents(tmp_path, "web", "validation", ["aaaa", "bbbb"])
    write_documents(tmp_path, "web", "train", ["cccc", "dddd"])
    folder = all_documents(tmp_path)
    assert measured_texts(folder, "web", 100) == {
        "validation": ["aaaa", "bbbb"],
        "train": ["cccc", "dddd"],
    }
    assert measured_texts(folder, "web", 10) == {"validation": ["aaaa", "bbbb"], "train": ["cc"]}
    assert measured_texts(folder, "web", 6) == {"validation": ["aaaa", "bb"], "train": []}
    assert measured_texts(folder, "other", 6) == {"validation": [], "train": []}
    write_documents(tmp_path, "web", "validation", ["éé"])
    assert measured_texts(folder, "web", 3)["validation"] == ["é"]


def test_only_the_beginning_of_a_document_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tokens.tokenizer_report.DOCUMENT_CHARACTERS", 3)
    texts = ["abcdefghijklmn", "é\U0001f642\U0001f642é", "\U0001f642" * 9, TEXT]
    write_documents(tmp_path, "web", "train", texts)
    found = measured_texts(all_documents(tmp_path), "web")["train"]
    assert found == [text[:3] for text in texts]


def test_other_tokenizers_on_the_same_text(run_file: Path, tmp_path: Path) -> None:
    write_sentencepiece_tokenizer(tmp_path / "other")
    write_byte_level_tokenizer(tmp_path / "deep" / "other")
    config = prepare(run_file, write_byte_level_tokenizer, f"tokenizer.compare=[{tmp_path}/other]")
    report = tokenizer_report(config)
    (other,) = report["compared"]
    assert (other["name"], other["vocab_size"], other["all"]["bytes_per_token"]) == (
        "other",
        263,
        1.5,
    )
    comparison = next(table for table in tables(report) if "beside" in table.title)
    assert comparison.head == ["", "this run's", "other"]
    assert comparison.rows == [
        ["ids", "259", "263"],
        ["web", "1.50", "1.50"],
        ["all", "1.50", "1.50"],
    ]
    paths = f"tokenizer.compare=[{tmp_path}/other, {tmp_path}/deep/other/tokenizer.json]"
    assert list(compared_files(load(run_file, [paths]))) == [f"{tmp_path.name}/other", "deep/other"]


def test_every_missing_tokenizer_is_named(run_file: Path, tmp_path: Path) -> None:
    config = prepare(
        run_file, write_byte_level_tokenizer, "tokenizer.compare=[/nowhere, /none.json]"
    )
    with pytest.raises(
        DataError, match=r"missing are /nowhere/tokenizer\.json, /none\.json\. Use folders"
    ):
        tokenizer_report(config)


def test_what_was_measured_is_kept_until_something_of_it_changes(
    run_file: Path, tmp_path: Path
) -> None:
    config = prepare(run_file, write_byte_level_tokenizer)
    first = tokenizer_report(config)
    kept = config.paths.data_dir / "tokenizer" / "statistics.json"
    before = kept.stat().st_mtime_ns
    assert tokenizer_report(config) == first
    assert kept.stat().st_mtime_ns == before
    write_sentencepiece_tokenizer(tmp_path / "other")
    compared = load(run_file, [f"tokenizer.compare=[{tmp_path}/other]"])
    assert len(tokenizer_report(compared)["compared"]) == 1
    prepare(run_file, write_sentencepiece_tokenizer)
    assert tokenizer_report(config)["tokenizer"]["kind"] == "sentencepiece"


def test_tokenize_measures_and_what_is_kept_is_shown(run_file: Path) -> None:
    run_stages(run_file, DATA_STAGES, [])
    config = load(run_file)
    kept = config.paths.data_dir / "tokenizer" / "statistics.json"
    before = kept.stat().st_mtime_ns
    measured = read_json(kept)["measured"]
    report = tokenizer_report(config)
    assert {name: report[name] for name in measured} == measured
    assert kept.stat().st_mtime_ns == before
    kept.unlink()  # as in a folder that was made before `tokenize` measured
    assert tokenizer_report(config) == report
    assert read_json(kept)["measured"] == measured


def test_a_tokenizer_to_compare_with_that_is_missing_does_not_stop_tokenize(
    run_file: Path,
) -> None:
    run_stages(run_file, DATA_STAGES, ["tokenizer.compare=[/nowhere]"])
    assert not (load(run_file).paths.data_dir / "tokenizer" / "statistics.json").exists()


def test_comparing_makes_the_page_stale_and_nothing_else(run_file: Path, tmp_path: Path) -> None:
    write_byte_level_tokenizer(tmp_path / "other")
    table = {stage.name: stage for stage in STAGES}
    plain, compared = load(run_file), load(run_file, [f"tokenizer.compare=[{tmp_path}/other]"])
    changed = {}
    for stage in STAGES:
        before, after = (expected_inputs(stage, config, table) for config in (plain, compared))
        changed[stage.name] = [line.partition(":")[0] for line in differences(before, after)]
    assert changed.pop("report") == ["compared tokenizer other"]
    assert not any(changed.values())


def sizes(config: RunConfig) -> dict[str, Any]:
    model = tokenizer_report(config)["model"]
    return {
        row["vocab_size"]: (row["rows"], row["embedding_parameters"], row["share"])
        for row in model["sizes"]
    }


def test_what_the_vocabulary_costs(run_file: Path) -> None:
    tied = "model.config.tie_word_embeddings=true"
    config = prepare(run_file, write_byte_level_tokenizer, tied)
    # 300 ids are rounded up to 384 rows of width 16; 50,000 to 391 x 128 = 50,048
    assert sizes(config)[300] == (384, 384 * 16, None)
    assert sizes(config)[50_000] == (50_048, 50_048 * 16, None)
    assert sizes(load(run_file, ["model.config.tie_word_embeddings=false"]))[300] == (
        384,
        2 * 384 * 16,
        None,
    )
    assert sizes(load(run_file, [tied, "model.config.vocab_size=320"]))[300] == (
        320,
        320 * 16,
        None,
    )
    manifest = config.paths.run_dir / "checkpoints" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    model = {
        "model.architecture": "llama",
        "model.scale_residual_init": True,
        "model.mup": False,
        **{f"model.config.{key}": value for key, value in config.model.config.items()},
    }
    manifest.write_text(json.dumps({"inputs": model, "counts": {"parameters": 384 * 16 + 2048}}))
    assert sizes(config)[300] == (384, 6144, 6144 / 8192)
    assert sizes(config)[8_000] == (8_064, 129_024, 129_024 / (129_024 + 2_048))
    other = load(
        run_file, [tied, "model.config.num_hidden_layers=2"]
    )  # that run's other parameters are not this model's
    assert sizes(other)[300] == (384, 6144, None)


def test_an_architecture_that_does_not_say_whether_it_is_tied(run_file: Path) -> None:
    report = tokenizer_report(prepare(run_file, write_byte_level_tokenizer))
    assert report["model"]["tied"] is None
    (costs,) = [table for table in tables(report) if "costs" in table.title]
    assert ["300 (this run's)", "384", "6,144"] in costs.rows
    assert "the input matrix alone: model.config does not say tie_word_embeddings" in costs.note


def test_a_model_of_unknown_width_has_no_such_table(run_file: Path) -> None:
    run_file.write_text(run_file.read_text().replace("hidden_size: 16, ", ""))
    report = tokenizer_report(prepare(run_file, write_byte_level_tokenizer))
    assert report["model"] is None
    assert not [table for table in tables(report) if "costs" in table.title]


def test_unfinished_data_names_the_stage(run_file: Path) -> None:
    config = prepare(run_file, write_byte_level_tokenizer)
    (config.paths.data_dir / "tokenizer" / "manifest.json").unlink()
    with pytest.raises(DataError, match="Run `pipeline train-tokenizer` first"):
        tokenizer_report(config)


def test_pieces_on_one_line() -> None:
    assert piece_text(" the\n") == "␣the↵"
    assert piece_text(" " * 64) == "␣, 64 times"
    assert piece_text("ab" * 40) == "ab" * 23 + "a…"
