"""The join of documents with what was published about them, by file and row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.trees.published_trees import (
    BANDS,
    DUPLICATES_SCHEMA,
    MINHASH_SCHEMA,
    make_dolma,
    make_redpajama_v2,
    read_lines,
    write_lines,
    write_table,
)
from helpers import prepare_here

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.trees.published_annotations import (
    published_annotations,
    published_parts,
    side_file_identities,
)
from pipeline.corpus.trees.published_record import PublishedRecord
from pipeline.errors import DataError

HEAD = "2023-06/0000/en_head"
SHARDS = (HEAD, "2023-06/0000/en_middle", "2023-06/0000/en_tail")


class Prepared:
    """A tree that was prepared as the source `tree`."""

    def __init__(self, run_file: Path, root: Path | str, *more: str) -> None:
        settings = [f"sources.tree={{kind: jsonl, paths: ['{root}']}}", *more]
        self.config: RunConfig = load(run_file, settings)
        prepare_here(run_file, *settings)
        folder = self.config.paths.data_dir / "documents" / "tree"
        self.shards = sorted(folder.rglob("*.parquet"))

    def joined(self, **options: Any) -> dict[tuple[str, int], PublishedRecord | None]:
        """Return what was published about each document, by the name of its raw file and its row."""
        joined: dict[tuple[str, int], PublishedRecord | None] = {}
        for shard in self.shards:
            table = pq.read_table(shard, columns=["origin_file", "origin_row"])
            keys = zip(*(column.to_pylist() for column in table.columns), strict=True)
            records = published_annotations(self.config, "tree", shard, **options)
            for (file, row), record in zip(keys, records, strict=True):
                joined[file.rpartition("documents/")[2], row] = record
        return joined


def drop_row(row: int) -> Callable[[list[Any]], list[Any]]:
    return lambda rows: rows[:row] + rows[row + 1 :]


@pytest.fixture
def run_file_here(run_file: Path) -> Path:
    (run_file.parent / "web.jsonl").write_text('{"text": "one document"}\n')
    return run_file


@pytest.fixture
def rp2(tmp_path: Path) -> Path:
    return make_redpajama_v2(tmp_path / "rp2", SHARDS)


def test_every_document_gets_the_row_of_its_file_whatever_its_split(
    rp2: Path, run_file_here: Path
) -> None:
    # Row 3 of the file is no document: rows after it keep their numbers.
    documents = rp2 / "documents" / f"{HEAD}.json.gz"
    texts = {
        f"{key}.json.gz": [
            row["raw_content"] for row in read_lines(rp2 / "documents" / f"{key}.json.gz")
        ]
        for key in SHARDS
    }
    rows = read_lines(documents)
    write_lines(documents, [*rows[:3], '{"raw_content": ', *rows[4:]])
    prepared = Prepared(run_file_here, rp2, "prepare.max_bad_rows=0.5")
    assert len(prepared.shards) == 2, "train and validation"
    joined = prepared.joined()
    assert len(joined) == 17
    assert (f"{HEAD}.json.gz", 3) not in joined
    for (file, row), record in joined.items():
        if "tail" in file:
            assert record is None
            continue
        assert record is not None and record.signals is not None and record.minhash is not None
        text = texts[file][row]
        published = read_lines(
            rp2 / "quality_signals" / file.replace(".json.gz", ".signals.json.gz")
        )[row]["quality_signals"]
        assert record.signals == {
            name: tuple(tuple(span) for span in spans) for name, spans in published.items()
        }
        assert record.signals["ccnet_length"] == ((0, len(text), float(len(text))),)
        assert record.signals["rps_doc_ml_palm_score"][0][2] is None
        stored = pq.read_table(rp2 / "minhash" / file.replace(".json.gz", ".minhash.parquet"))
        for similarity, (bands, band_rows) in BANDS.items():
            column = stored[f"signature_sim{similarity}"].to_pylist()
            signature = record.minhash[similarity]
            assert signature == (None if column[row] is None else tuple(column[row]))
            assert (signature is None) == (row == 1), "row 1 has ten words"
            if signature is not None:
                assert [len(band) for band in signature] == [8 * band_rows] * bands
        assert record.is_duplicate == (row in (2, 4))
        assert record.attributes is None
        assert record.clamped == 0


def test_only_the_parts_that_are_asked_for_are_opened(rp2: Path, run_file_here: Path) -> None:
    prepared = Prepared(run_file_here, rp2)
    assert published_parts(prepared.config, "tree") == {"signals", "minhash", "duplicates"}
    assert published_parts(prepared.config, "web") == frozenset()
    for path in rp2.rglob("*.minhash.parquet"):
        path.unlink()
    joined = prepared.joined(parts=["duplicates"])
    record = joined[f"{HEAD}.json.gz", 2]
    assert record == PublishedRecord(is_duplicate=True)
    with pytest.raises(DataError, match=r"en_head\.minhash\.parquet is missing beside .*en_head"):
        prepared.joined()
    for folder in ("minhash", "quality_signals", "duplicates"):
        for path in (rp2 / folder).rglob("*"):
            if path.is_file():
                path.unlink()
        (rp2 / folder).rename(rp2 / f"other-{folder}")
    # A tree that was downloaded without them: nothing is known of its documents.
    assert set(prepared.joined().values()) == {None}


def rewrite(path: Path, change: Callable[[list[Any]], list[Any]]) -> None:
    if path.suffix == ".gz":
        write_lines(path, change(read_lines(path)))
        return
    schema = MINHASH_SCHEMA if "minhash" in path.name else DUPLICATES_SCHEMA
    write_table(path, change(pq.read_table(path).to_pylist()), schema)


def renumber(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop the first row, and number the others anew, as a program that skipped a row would."""
    return [row | {"id": f"{HEAD}.json.gz/{number}"} for number, row in enumerate(rows[1:])]


def set_signal(value: Any) -> Callable[[list[Any]], list[Any]]:
    def change(rows: list[Any]) -> list[Any]:
        rows[2]["quality_signals"]["rps_doc_word_count"] = value
        return rows

    return change


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "quality_signals/{}.signals.json.gz",
            lambda rows: rows[:4],
            "has 4 rows, so none for row 4",
        ),
        ("quality_signals/{}.signals.json.gz", drop_row(2), "row 2 has the id {}.json.gz/3, not"),
        (
            "quality_signals/{}.signals.json.gz",
            renumber,
            "row 0 is of https://site1.org/page/1, the",
        ),
        (
            "quality_signals/{}.signals.json.gz",
            lambda rows: [*rows[:2], "", *rows[2:]],
            "row 2 is bl",
        ),
        ("quality_signals/{}.signals.json.gz", lambda rows: ["{"], "row 0 is no valid JSON"),
        ("quality_signals/{}.signals.json.gz", lambda rows: [[1]], "row 0 is no JSON object"),
        (
            "quality_signals/{}.signals.json.gz",
            set_signal("many"),
            "row 2 has 'many' in 'rps_doc_wo",
        ),
        (
            "quality_signals/{}.signals.json.gz",
            set_signal([[0, 5]]),
            "row 2 has [0, 5] in 'rps_doc",
        ),
        (
            "quality_signals/{}.signals.json.gz",
            set_signal([[0, 5, "x"]]),
            "row 2 has [0, 5, 'x'] in",
        ),
        ("quality_signals/{}.signals.json.gz", set_signal([[7, 5, 1]]), "row 2 has [7, 5, 1] in"),
        ("minhash/{}.minhash.parquet", lambda rows: rows[:5], "has 5 rows, so none for row 5"),
        ("minhash/{}.minhash.parquet", drop_row(3), "row 3 has the id {}.json.gz/4, not"),
        (
            "duplicates/{}.duplicates.parquet",
            lambda rows: [row | {"doc_id": f"{row['doc_id']}{'0' * 20}"} for row in rows],
            "row 0 has the doc_id {}.json.gz/400000000000000000000, not",
        ),
        (
            "duplicates/{}.duplicates.parquet",
            lambda rows: [row | {"doc_id": f"{HEAD}.json.gz/3"} for row in rows[:1]],
            "row 3 is listed with the digest",
        ),
        (
            "duplicates/{}.duplicates.parquet",
            lambda rows: [row | {"doc_id": "2023-06/0000/de_head.json.gz/1"} for row in rows],
            "row 0 has the doc_id 2023-06/0000/de_head.json.gz/1, not {}.json.gz/ROW",
        ),
    ],
)
def test_a_side_file_that_is_short_shifted_or_broken_is_refused_with_the_row(
    tmp_path: Path,
    run_file_here: Path,
    file: str,
    change: Callable[[list[Any]], list[Any]],
    words: str,
) -> None:
    root = make_redpajama_v2(tmp_path / "rp2", [HEAD])
    path = root / file.format(HEAD)
    prepared = Prepared(run_file_here, root, "prepare.validation_fraction=0")
    rewrite(path, change)
    with pytest.raises(DataError) as refused:
        prepared.joined()
    assert str(refused.value).startswith(f"{path}: {words.format(HEAD)}")


@pytest.mark.parametrize("folder", ["quality_signals", "minhash", "duplicates"])
def test_a_truncated_or_missing_side_file_is_named(
    tmp_path: Path, run_file_here: Path, folder: str
) -> None:
    root = make_redpajama_v2(tmp_path / "rp2", [HEAD])
    prepared = Prepared(run_file_here, root)
    (path,) = (path for path in (root / folder).rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"{path}: (is truncated|not readable as Parquet)"):
        prepared.joined()
    path.unlink()
    with pytest.raises(DataError) as refused:
        prepared.joined()
    assert str(refused.value) == (
        f"{path} is missing beside {root}/documents/{HEAD}.json.gz. Download what is missing, or "
        "leave these documents out (remove the file)."
    )


def test_a_table_without_the_columns_of_its_kind_is_named(
    tmp_path: Path, run_file_here: Path
) -> None:
    root = make_redpajama_v2(tmp_path / "rp2", [HEAD])
    prepared = Prepared(run_file_here, root)
    write_table(
        root / "minhash" / f"{HEAD}.minhash.parquet",
        [{"id": "x"}],
        pa.schema([("id", pa.string())]),
    )
    with pytest.raises(DataError, match=r"has no column signature_sim1\.0, .* but id"):
        prepared.joined()
    path = root / "duplicates" / f"{HEAD}.duplicates.parquet"
    odd = pa.array([b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"doc_id": odd, "digest": odd}), path)
    with pytest.raises(DataError, match=rf"{path}: holds a value that cannot be read"):
        prepared.joined(parts=["duplicates"])
    other = pa.schema([pa.field(field.name, pa.string()) for field in MINHASH_SCHEMA])
    rows = [dict.fromkeys(MINHASH_SCHEMA.names, f"{HEAD}.json.gz/{row}") for row in range(6)]
    write_table(root / "minhash" / f"{HEAD}.minhash.parquet", rows, other)
    with pytest.raises(DataError, match=r"row \d has other values than lists of bytes in signatu"):
        prepared.joined(parts=["minhash"])


def test_attributes_of_all_folders_are_joined_and_spans_beyond_the_text_are_cut_and_counted(
    tmp_path: Path, run_file_here: Path
) -> None:
    root = make_dolma(tmp_path / "dolma")
    prepared = Prepared(run_file_here, root)
    joined = prepared.joined()
    assert len(joined) == 10
    for (file, row), record in joined.items():
        characters = len(read_lines(root / "documents" / file)[row]["text"])
        expected = {
            "exp__toxicity__doc": ((0, characters, 0.25 + row),),
            "bff_duplicate_paragraph_spans": ((0, 5, 1.0),),
        }
        if row == 0:
            last = (characters - 3, characters, 1.0)
            expected["bff_duplicate_paragraph_spans"] += (last,)
        assert record == PublishedRecord(attributes=expected, clamped=int(row == 0))


def test_an_attribute_may_be_one_value_for_the_whole_text(
    tmp_path: Path, run_file_here: Path
) -> None:
    root = tmp_path / "dolma"
    write_lines(root / "documents/a.jsonl", [{"id": "1", "text": "four"}, {"id": "2", "text": "ö"}])
    rows = [{"id": "1", "attributes": {"t": 0.5}}, {"id": "2", "attributes": {"t": True}}]
    write_lines(root / "attributes/x/a.jsonl", rows)
    joined = Prepared(run_file_here, root).joined()
    records = [record for record in joined.values() if record and record.attributes]
    spans = [tuple(record.attributes["t"]) for record in records]
    assert sorted(spans) == [((0, 1, 1.0),), ((0, 4, 0.5),)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [{"id": "2", "attributes": {}}, {"id": "1", "attributes": {}}],
            "attributes/x/a.jsonl: row 0 has the id 2, the document has 1, so its rows are shifted",
        ),
        ([{"id": "1", "attributes": {}}], "attributes/x/a.jsonl: has 1 rows, so none for row 1"),
        ([{"id": "1"}], "attributes/x/a.jsonl: row 0 has no object 'attributes'"),
        (
            [{"id": "1", "attributes": {"t": 1}}],
            "attributes/y/a.jsonl: has the attribute t, which another folder of attributes/ has",
        ),
    ],
)
def test_attributes_of_other_documents_are_refused(
    tmp_path: Path, run_file_here: Path, rows: list[Any], words: str
) -> None:
    root = tmp_path / "dolma"
    write_lines(
        root / "documents/a.jsonl", [{"id": "1", "text": "one"}, {"id": "2", "text": "two"}]
    )
    write_lines(root / "attributes/x/a.jsonl", rows)
    if "/y/" in words:
        write_lines(root / "attributes/y/a.jsonl", rows)
    prepared = Prepared(run_file_here, root, "prepare.validation_fraction=0")
    with pytest.raises(DataError) as refused:
        prepared.joined()
    assert str(refused.value).startswith(f"{root}/{words}")


def test_held_out_folders_of_a_tree_find_their_side_files_too(
    rp2: Path, run_file_here: Path
) -> None:
    make_redpajama_v2(rp2, ["2022-49/0001/en_head"])
    held_out = rp2 / "documents" / "2022-49"
    prepared = Prepared(run_file_here, rp2, f"sources.tree.validation_paths=['{held_out}']")
    joined = {f"{file}": record for (file, row), record in prepared.joined().items() if row == 2}
    assert len(joined) == 4
    assert sum(record is None for record in joined.values()) == 1
    other = make_redpajama_v2(run_file_here.parent / "other", ["2014-15/0000/de_head"])
    prepared = Prepared(run_file_here, rp2, f"sources.tree.validation_paths=['{other}']")
    record = prepared.joined()["2014-15/0000/de_head.json.gz", 2]
    assert record is not None and record.is_duplicate


def test_the_identity_of_side_files_changes_with_a_file_and_with_nothing_else(
    rp2: Path, run_file_here: Path
) -> None:
    prepared = Prepared(run_file_here, rp2, "prepare.validation_fraction=0")
    (shard,) = prepared.shards
    before = side_file_identities(prepared.config, "tree", shard)
    assert len(before) == 6
    assert json.loads(json.dumps(before)) == before
    path = rp2 / "minhash" / f"{HEAD}.minhash.parquet"
    rewrite(path, drop_row(3))
    after = side_file_identities(prepared.config, "tree", shard)
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
    signals = side_file_identities(prepared.config, "tree", shard, ["signals"])
    assert signals == [entry for entry in before if "quality_signals" in str(entry)]
    path.unlink()
    gone = side_file_identities(prepared.config, "tree", shard)
    assert [f"rp2/documents/{HEAD}.json.gz", "minhash", None] in gone
