"""Trees of published corpora named by their roots: what `prepare` makes of them, counted by hand."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from corpus.trees.published_trees import make_all
from helpers import digests, prepare_here, run_stages

from pipeline.config.run_file import load
from pipeline.store.artifacts import read_manifest, stage_states
from pipeline.store.counts import PrepareCounts, TokenizeCounts
from pipeline.store.layout import data_folder
from pipeline.store.records import Manifest
from pipeline.store.stages import STAGES

STAGES_TO_TOKENS = ("prepare", "annotate", "select", "train-tokenizer", "tokenize")
ANNOTATE = (
    "annotate={signals: [rps_doc_word_count, rps_lines_num_words], published_signals: check, "
    "language: false}"
)
SELECT = "select={rules: ['rps_doc_word_count >= 13'], exact_duplicates: [published]}"


def sources(folder: Path, **settings: str) -> list[str]:
    """Return the settings of a source for each tree; `settings` go to that of RedPajama-v2."""
    more = "".join(f", {name}: {value}" for name, value in settings.items())
    return [
        "sources={"
        f"v1: {{kind: jsonl, paths: ['{folder}/rp1']}}, "
        f"v2: {{kind: jsonl, paths: ['{folder}/rp2']{more}}}, "
        f"slim: {{kind: jsonl, paths: ['{folder}/slim']}}, "
        f"dolma: {{kind: jsonl, paths: ['{folder}/dolma']}}}}"
    ]


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    return make_all(tmp_path)


def test_roots_become_tokens_with_the_counts_of_their_documents(
    trees: Path, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*sources(trees), "prepare.validation_fraction=0", ANNOTATE, SELECT]
    run_stages(run_file, STAGES_TO_TOKENS, settings)
    data = data_folder(load(run_file))
    prepared: Manifest[PrepareCounts] | None = read_manifest(data.documents_manifest)
    tokenized: Manifest[TokenizeCounts] | None = read_manifest(data.tokens_manifest)
    assert prepared is not None and tokenized is not None
    counts = prepared["counts"]["sources"]
    # 7 subsets x 3; 5 files x 6; 2 chunks x 4 and 1 chunk x 4 held out; 2 files x 5.
    expected = {
        "v1": {"train": 21, "validation": 0},
        "v2": {"train": 30, "validation": 0},
        "slim": {"train": 8, "validation": 4},
        "dolma": {"train": 10, "validation": 0},
    }
    assert {name: counts[name]["documents"] for name in counts} == expected
    assert [counts[name]["input_files"] for name in counts] == [7, 5, 3, 2]
    assert not any(counts[name]["rejected"] for name in counts)
    # Row 1 of each of 5 files has 3 words; rows 2 and 4 of all but `tail` are listed duplicates.
    expected["v2"] = {"train": 30 - 5 - 2 * 4, "validation": 0}
    assert {
        name: {split: tokenized["counts"]["sources"][name][split]["documents"] for split in splits}
        for name, splits in expected.items()
    } == expected
    lines = [line for line in capsys.readouterr().err.splitlines() if " has layout " in line]
    assert [line.partition(" has layout ")[2].partition(":")[0] for line in lines] == [
        "redpajama-v1",
        "redpajama-v2",
        "slimpajama",
        "dolma",
    ]
    assert "test/ is never read" in lines[2]


def test_documents_of_a_tree_are_those_of_its_documents_folder(trees: Path, run_file: Path) -> None:
    prepare_here(run_file, *sources(trees, partitions="[head]", languages="[en]"))
    folder = run_file.parent / "data" / "documents" / "v2"
    table = pq.read_table(sorted(folder.glob("*.parquet")))
    assert sorted(set(table["origin_file"].to_pylist())) == [
        "rp2/documents/2022-49/0001/en_head.json.gz",
        "rp2/documents/2023-06/0000/en_head.json.gz",
    ]
    assert table.num_rows == 12


def test_side_files_change_no_documents_and_a_missing_one_is_said_before_reading(
    trees: Path, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*sources(trees), "prepare.validation_fraction=0.2"]
    run_stages(run_file, ["prepare"], settings)
    before = digests(run_file.parent / "data" / "documents")
    capsys.readouterr()
    (trees / "rp2/minhash/2023-06/0000/en_middle.minhash.parquet").unlink()
    (trees / "dolma/attributes/toxicity/2019-09/0001_en_all.jsonl.gz").unlink()
    assert stage_states({"prepare": STAGES[0]}, load(run_file, settings))["prepare"].kind == "done"
    prepare_here(run_file, *settings)
    said = capsys.readouterr().err
    assert (
        "source v2: minhash/ has no file beside 1 files of documents: "
        "documents/2023-06/0000/en_middle.json.gz. What reads it" in said
    )
    assert "source dolma: attributes/toxicity/ has no file beside 1 files of documents" in said
    assert digests(run_file.parent / "data" / "documents") == before


def test_settings_that_are_not_used_are_in_no_fingerprint(run_file: Path) -> None:
    source = load(run_file).sources["web"].model_dump(mode="json")
    assert source.keys().isdisjoint({"layout", "partitions", "languages", "snapshots"})
