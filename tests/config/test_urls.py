"""URLs among the paths of a source: which are taken, what they are in words, and what is refused."""

from pathlib import Path

import pytest

from pipeline.config.run_file import dump, load
from pipeline.config.urls import Url, parse_url
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "name", "suffix", "parent", "is_pattern"),
    [
        ("s3://corpora/web/a.jsonl.gz", "a.jsonl.gz", ".gz", "s3://corpora/web", False),
        ("s3://corpora", "corpora", "", "s3:/", False),
        ("gs://b/x?.jsonl", "x?.jsonl", ".jsonl", "gs://b", True),
        ("https://h.org/x.json?key=1", "x.json", ".json", "https://h.org", False),
        ("hf://datasets/o/n@main/*.parquet", "*.parquet", ".parquet", "hf://datasets/o/n@main", 1),
    ],
)
def test_the_parts_of_a_url(
    text: str, name: str, suffix: str, parent: str, is_pattern: bool
) -> None:
    url = parse_url(text)
    assert isinstance(url, Url)
    assert (url.name, url.suffix, url.parent.text) == (name, suffix, parent)
    assert url.is_pattern == is_pattern


def test_a_query_may_hold_a_signature_and_is_not_shown() -> None:
    assert str(parse_url("https://h.org/x.json?Signature=abc")) == "https://h.org/x.json?..."


@pytest.mark.parametrize("text", ["file:///data/x.jsonl", "FILE://localhost/data/x.jsonl"])
def test_a_file_url_is_a_path(text: str) -> None:
    assert parse_url(text) == Path("/data/x.jsonl")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("s3://", "names no bucket or host; write s3://BUCKET/FOLDER"),
        (
            "file://data/x.jsonl",
            "names no absolute path of this machine; write file:///FOLDER/FILE",
        ),
        ("simplecache::s3://b/x", "chains several URLs"),
        ("zip://a.jsonl::s3://b/x.zip", "chains several URLs"),
        ("https://me:secret@h.org/x", "holds a password"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_when_the_run_file_is_loaded(
    run_file: Path, text: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=r"sources\.web\.paths") as refused:
        load(run_file, [f"sources.web.paths=['{text}']"])
    assert why in str(refused.value)


def test_a_url_is_kept_as_it_is_written_with_its_variables_replaced(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORPORA", "s3://corpora")
    config = load(run_file, ["sources.web.paths=[$CORPORA/web/, more/*.jsonl]"])
    url, path = config.sources["web"].paths
    assert url == Url("s3://corpora/web") and path == Path.cwd() / "more/*.jsonl"
    run_file.write_text(dump(config))
    assert load(run_file, []).sources == config.sources


def test_pairs_of_token_ids_are_no_urls(run_file: Path) -> None:
    settings = ["sources.web.kind=megatron", "sources.web.paths=[s3://corpora/pair]"]
    with pytest.raises(ConfigError, match=r"s3://corpora/pair: pairs of token ids are read"):
        load(run_file, settings)


@pytest.mark.parametrize("text", ["s3://b/x", "file:///data/x", "hf://o/n"])
@pytest.mark.parametrize("setting", ["paths.data_dir", "paths.run_dir", "prepare.validation.file"])
def test_a_url_where_only_a_path_can_be_is_refused(run_file: Path, setting: str, text: str) -> None:
    """As a path it would be a folder `s3:` beside the run file."""
    with pytest.raises(ConfigError, match=rf"{setting} = '{text}': is a URL, which only `paths`"):
        load(run_file, [f"{setting}={text}"])
