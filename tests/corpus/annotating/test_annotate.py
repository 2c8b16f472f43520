"""The stage `annotate`: rows and parts, what is computed again, damaged files, bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
import xxhash
from helpers import digests, write_documents

from pipeline.cli import commands, status_view
from pipeline.config.run_file import load
from pipeline.corpus.annotating import annotate_shard as items
from pipeline.corpus.annotating import minhash, paragraphs
from pipeline.corpus.annotating.annotate import annotate, annotation_inputs
from pipeline.corpus.annotating.annotation_file import read_annotations
from pipeline.errors import ConfigError, DataError
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.files import file_record
from pipeline.store.records import content_of
from pipeline.store.stages import STAGES

TEXTS = ["One two three four five.\nOne more line\n", "", "Ünï 😀\n\none more LINE!", "a b " * 200]
SHARD = "web/train_00000_000.parquet"
OWN = "annotate={language: false, pii: false, signals: none}"


@pytest.fixture
def data(run_file: Path) -> Path:
    """Return data_dir with documents of one source."""
    write_documents(run_file.parent / "data", "web", "train", TEXTS)
    write_documents(run_file.parent / "data", "web", "validation", TEXTS[:1])
    return run_file.parent / "data"


def annotated(run_file: Path, *settings: str) -> dict[str, str]:
    """Annotate in this process; return the checksums of the files."""
    config = load(run_file, ["executor.workers=1", OWN, *settings], needs=())
    result = annotate(config)
    folder = annotation_folder(config).path
    assert {name: content_of(record) for name, record in result.files.items()} == digests(folder)
    return digests(folder)


def rows(data: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    checksum = file_record(data / "documents" / SHARD)["checksum"]
    tables = read_annotations(data / "annotations" / SHARD, checksum, columns)
    return [row for table in tables for row in table.to_pylist()]


def test_each_document_has_a_row_in_its_place(run_file: Path, data: Path) -> None:
    annotated(run_file)
    found = rows(data)
    assert [row["id"] for row in found] == [f"web/train_00000_000/{row}" for row in range(4)]
    assert [row["text_hash"] for row in found] == [
        xxhash.xxh3_128_digest(text.encode()) for text in TEXTS
    ]
    assert [row["minhash_bands"] is None for row in found] == [False, True, False, False]

    # A paragraph is a line with words, whatever their case and punctuation.
    first, empty, third, _ = [row["paragraph_hashes"] for row in found]
    assert [TEXTS[0][span["start"] : span["end"]] for span in first] == [
        "One two three four five.\n",
        "One more line\n",
    ]
    assert empty == []
    assert [TEXTS[2][span["start"] : span["end"]] for span in third] == [
        "Ünï 😀\n",
        "one more LINE!",
    ]
    assert third[1]["hash"] == first[1]["hash"]
    assert third[0]["hash"] != first[0]["hash"]


def test_only_a_part_that_changed_is_computed_and_the_bytes_are_those_of_all(
    run_file: Path, data: Path, tmp_path: Path
) -> None:
    annotated(run_file)
    other = "annotate.minhash={words: 3}"
    with patch.object(paragraphs.ParagraphHashes, "values", side_effect=AssertionError):
        changed = annotated(run_file, other)
    for path in (data / "annotations").glob("web/*.parquet"):
        path.unlink()
    assert annotated(run_file, other) == changed

    # A part that is left out, and comes back, is computed; the other is taken.
    annotated(run_file, "annotate.paragraphs=false")
    assert "paragraph_hashes" not in rows(data)[0]
    with patch.object(minhash.MinHashBands, "values", side_effect=AssertionError):
        annotated(run_file, "annotate.minhash=none")
        annotated(run_file, "annotate.minhash=none")
    assert annotated(run_file, other) == changed


def test_threads_of_this_process_write_the_same_bytes(run_file: Path, data: Path) -> None:
    alone = annotated(run_file, "annotate.language=true")
    for path in (data / "annotations").glob("web/*.parquet"):
        path.unlink()
    assert annotated(run_file, "annotate.language=true", "executor.workers=auto") == alone


def test_row_groups_follow_the_texts_alone(run_file: Path, data: Path) -> None:
    with patch.object(items, "BATCH_BYTES", 1000):
        annotated(run_file)
        path = data / "annotations" / SHARD
        file = pq.ParquetFile(path)
        # Lines count as 200 bytes: 40 + 600, 200 | 20 + 800 | 800 + 200.
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        assert sizes == [2, 1, 1]
        changed = annotated(run_file, "annotate.minhash={words: 3}")
        path.unlink()
        assert annotated(run_file, "annotate.minhash={words: 3}") == changed


def test_blocks_of_documents_decide_nothing(run_file: Path, data: Path) -> None:
    whole = annotated(run_file)
    (data / "annotations" / SHARD).unlink()
    # Each document is a block of its own.
    with patch.object(items, "BLOCK_CHARACTERS", 1):
        assert annotated(run_file) == whole


def test_annotations_of_other_documents_are_refused_and_made_again(
    run_file: Path, data: Path
) -> None:
    annotated(run_file)
    before = digests(data / "annotations")
    write_documents(data, "web", "train", [*reversed(TEXTS)])
    with pytest.raises(DataError, match=r"annotates other documents: .*Delete it first"):
        rows(data)
    annotated(run_file)
    assert rows(data)[0]["text_hash"] == xxhash.xxh3_128_digest(TEXTS[-1].encode())
    write_documents(data, "web", "train", TEXTS)
    assert annotated(run_file) == before


def test_a_flipped_byte_is_found_and_never_copied(run_file: Path, data: Path) -> None:
    whole = annotated(run_file)
    other = annotated(run_file, "annotate.minhash={words: 3}")
    annotated(run_file)
    path = data / "annotations" / SHARD
    content = path.read_bytes()
    found = 0
    for place in range(4, len(content) - 8, 13):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            read = rows(data)
        except DataError as error:
            assert str(path) in str(error)
            assert "`pipeline annotate`" in str(error)
            found += 1
            continue
        # Bytes that no reader uses, such as the program's name in the footer.
        path.write_bytes(content)
        assert read == rows(data)
    assert found > 10
    path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    assert annotated(run_file, "annotate.minhash={words: 3}") == other
    assert annotated(run_file) == whole
    path.unlink()
    with pytest.raises(DataError, match=r"is missing. Run `pipeline annotate`"):
        rows(data)


def test_a_column_that_is_not_there_is_named(run_file: Path, data: Path) -> None:
    annotated(run_file)
    assert [*rows(data, ["text_hash"])[0]] == ["text_hash"]
    with pytest.raises(DataError, match=r"has no column pii; columns are id, text_hash, .*section"):
        rows(data, ["pii"])


def test_what_an_attempt_left_is_removed(run_file: Path, data: Path) -> None:
    folder = data / "annotations" / "web"
    folder.mkdir(parents=True)
    left = [folder / ".train_x.parquet.1-ab.partial", folder / "train_gone_000.parquet"]
    for path in left:
        path.write_bytes(b"x")
    annotated(run_file)
    assert not any(path.exists() for path in left)


def test_an_interrupted_item_leaves_no_file(run_file: Path, data: Path) -> None:
    with (
        patch.object(minhash.MinHashBands, "values", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        annotated(run_file)
    assert [*(data / "annotations").glob("web/*")] == []


def test_another_version_of_a_part_makes_the_stage_stale(run_file: Path) -> None:
    config = load(run_file, [OWN], needs=())
    before = annotation_inputs(config)
    with patch.object(paragraphs.ParagraphHashes, "version", 99):
        changed = annotation_inputs(config)
    assert {name for name in before if before[name] != changed[name]} == {"part paragraphs"}
    # What cannot be made here was made elsewhere: it is no reason to make it again.
    with patch("importlib.util.find_spec", return_value=None):
        assert annotation_inputs(load(run_file, ["annotate={}"], needs=()))["part language"] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "annotate.signals=[rps_doc_word_cuont]",
            r"there is no signal rps_doc_word_cuont; close names: rps_doc_word_count",
        ),
        ("annotate.signals=zzz", r"there is no signal zzz; close names: .*redpajama-v2"),
        ("annotate.minhash={bands: 0}", r"annotate\.minhash\.bands"),
        (
            "annotate.minhash={scheme: redpajama-v2, words: 6}",
            r"words: scheme redpajama-v2 has no such settings; leave them out",
        ),
        (
            "annotate.minhash={similarity: '0.9'}",
            r"similarity: scheme own has no such settings; leave them out",
        ),
    ],
)
def test_wrong_settings_are_named(run_file: Path, settings: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(run_file, [settings], needs=())


def test_without_its_section_nothing_is_asked_and_nothing_changes(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(run_file)
    assert config.annotate is None
    assert "annotate" not in config.model_dump()
    status_view.show_status(STAGES, run_file, [])
    assert "not asked for" in capsys.readouterr().out
    stage = next(stage for stage in STAGES if stage.name == "annotate")
    commands.run_one(STAGES, stage, run_file, [])
    assert not (config.paths.data_dir / "annotations").exists()
