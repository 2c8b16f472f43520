"""`select` with copies that differ a little and repeated paragraphs, on annotations that `annotate`
makes."""

import contextlib
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from curation import write_corpus
from helpers import digests, run_stages

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.annotating.annotate import annotate
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.corpus.selecting.select import select
from pipeline.errors import TasksFailed
from pipeline.store.files import write_json
from pipeline.store.manifests.replaced_output import replace_output
from pipeline.work.workers import kept_workers

RUN = """\
paths: {data_dir: data, run_dir: run}
executor: {workers: 1}
sources:
  web: {kind: jsonl, paths: [web.jsonl]}
  books: {kind: jsonl, paths: [books.jsonl]}
annotate: {signals: none, language: false, pii: false}
select:
  exact_duplicates: [text_hash]
  near_duplicates: {threshold: 0.8}
  paragraph_duplicates: {fewest_characters: 20}
  max_removed: {default: 1}
"""
PARAGRAPH = "A paragraph that stands in two documents of the corpus, word for word."


def text(seed: int, changed: int = 0) -> str:
    """Return 60 words, of which some at the end differ from those of the same seed."""
    words = [f"word{number}" for number in random.Random(seed).choices(range(500), k=60)]
    return " ".join([*words[: 60 - changed], *(f"other{seed}x{n}" for n in range(changed))])


LONG = "\n".join(text(seed) for seed in (31, 32, 33, 34))
REPEATING = f"{text(31)}\n{text(32)}"
"""All its paragraphs stand in the long text."""
LEFT = text(32).rsplit(" ", 4)[0]
"""Differs from a paragraph of the long text: four words fewer."""


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """Return a run whose documents are annotated: copies of held-out and of other text."""
    data = tmp_path / "data"
    write_corpus(data, "web", [text(1), text(2), f"{text(3)}\n{PARAGRAPH}"])
    write_corpus(data, "web", [text(1, 2), text(4)], split="validation")
    write_corpus(data, "books", [text(2, 3), f"{PARAGRAPH}\n{text(5)}", text(4, 30), text(6)])
    write_corpus(data, "books", [LONG, REPEATING, f"{text(31)}\n{LEFT}"], key="0b")
    write_corpus(data, "books", [text(8), text(6, 1), text(7)], split="validation")
    (tmp_path / "run.yaml").write_text(RUN)
    made = load(tmp_path / "run.yaml", needs=())
    shutil.rmtree(data / "annotations")
    result = annotate(made)
    write_json(data / "annotations" / "manifest.json", {"files": result.files})
    return made


def verdicts(config: RunConfig, source: str, split: str) -> list[tuple[list[str], str | None]]:
    paths = (config.paths.data_dir / "selection" / source).glob(f"{split}_*.parquet")
    rows = [row for path in sorted(paths) for row in pq.read_table(path).to_pylist()]
    for row in rows:
        assert (row["jaccard"] is None) == ("near-duplicate" not in row["reasons"])
        assert row["jaccard"] is None or row["jaccard"] >= 0.8
    return [(row["reasons"], row["lost_to"]) for row in rows]


def test_near_copies_go_in_the_order_of_priority_and_paragraphs_are_cut(config: RunConfig) -> None:
    select(config)
    held_out_copy = ["held-out-copy", "near-duplicate"]
    # Its held-out near-copy stays, so the longer training document goes.
    assert verdicts(config, "web", "train") == [
        (held_out_copy, "web/validation_0a00_000/0"),
        ([], None),
        ([], None),
    ]
    assert verdicts(config, "web", "validation") == [([], None), ([], None)]
    assert verdicts(config, "books", "validation") == [([], None)] * 3
    # Half of its words are others': that is no copy.
    assert verdicts(config, "books", "train") == [
        (["near-duplicate"], "web/train_0a00_000/1"),
        ([], None),
        ([], None),
        (held_out_copy, "books/validation_0a00_000/1"),
        ([], None),
        # What is like a document of which nothing is left loses to nothing.
        (["empty-after-cuts"], None),
        ([], None),
    ]
    kept = [each for _, each in kept_documents(config).iterate_texts("books", "train")]
    assert kept == [text(5), text(4, 30), LONG, LEFT]


def test_what_validation_paths_hold_out_stays_whatever_is_found(tmp_path: Path) -> None:
    """A published held-out set comes before all sources, and no rule touches it."""
    texts = {
        "web": [text(1), text(2), text(9)],
        "books": [text(3), text(1, 2)],
        "set": [text(1, 1), "a b"],
    }
    for name, of_file in texts.items():
        lines = [json.dumps({"text": each}) for each in of_file]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    held_out = RUN.replace(
        "paths: [books.jsonl]", "paths: [books.jsonl], validation_paths: [set.jsonl]"
    )
    (tmp_path / "run.yaml").write_text(held_out)
    rules = ["annotate.signals=gopher", "select.rules=[gopher_word_count >= 10]"]
    overrides = [*rules, "prepare.validation_fraction=0"]
    run_stages(tmp_path / "run.yaml", ["prepare", "annotate", "select"], overrides)
    made = load(tmp_path / "run.yaml", overrides, needs=())
    assert verdicts(made, "books", "validation") == [([], None), ([], None)]
    (web, books) = (verdicts(made, name, "train") for name in ("web", "books"))
    assert [reasons for reasons, _ in web] == [["held-out-copy", "near-duplicate"], [], []]
    assert [reasons for reasons, _ in books] == [[], ["held-out-copy", "near-duplicate"]]
    assert {lost_to for _, lost_to in (web[0], books[1])} == {
        next(identity for identity, _ in kept_documents(made).iterate_texts("books", "validation"))
    }


def test_held_out_files_of_a_published_tree_stay_as_those_of_validation_paths(
    tmp_path: Path,
) -> None:
    files = {
        "web.jsonl": [text(1), text(2)],
        "tree/train/chunk1/a.jsonl": [text(3), text(4)],
        "tree/validation/chunk1/b.jsonl": [text(1, 1), "a b"],
    }
    for name, texts in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("\n".join(json.dumps({"text": each}) for each in texts))
    (tmp_path / "run.yaml").write_text(RUN.replace("[books.jsonl]", "[tree]"))
    overrides = [
        "annotate.signals=gopher",
        "select.rules=[gopher_word_count >= 10]",
        "prepare.validation_fraction=0",
    ]
    run_stages(tmp_path / "run.yaml", ["prepare", "annotate", "select"], overrides)
    made = load(tmp_path / "run.yaml", overrides, needs=())
    assert verdicts(made, "books", "validation") == [([], None), ([], None)]
    removed = [reasons for reasons, _ in verdicts(made, "web", "train")]
    assert removed == [["held-out-copy", "near-duplicate"], []]


def test_interruptions_leave_the_same_bytes(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    select(config)
    folder = config.paths.data_dir / "selection"
    expected = digests(folder)
    shutil.rmtree(folder)

    # Three more work items are done at each start.
    starts = 0
    is_done = False
    while not is_done:
        starts += 1
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            _stop_after(patch, 3)
            select(config)
            is_done = True
    assert starts > 10
    assert digests(folder) == expected


def test_a_kill_while_verdicts_take_their_places_leaves_no_manifest_and_the_same_bytes(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = config.paths.data_dir / "selection"
    write_json(folder / "manifest.json", {"files": select(config).files})
    expected = digests(folder)

    def killed(beside: Path, output: Path, names: Sequence[str]) -> None:
        replace_output(beside, output, names[: len(names) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pipeline.corpus.selecting.select.replace_output", killed)
        select(config)
    assert not (folder / "manifest.json").exists()
    select(config)
    assert digests(folder) == expected


@pytest.mark.ranks
def test_two_workers_make_the_same_bytes(config: RunConfig) -> None:
    """The workers of `annotate` also take every round of `select`."""
    select(config)
    data = config.paths.data_dir
    expected = digests(data)
    shutil.rmtree(data / "selection")
    shutil.rmtree(data / "annotations")
    executor = config.executor.model_copy(update={"workers": 2})
    two = config.model_copy(update={"executor": executor})
    with kept_workers():
        result = annotate(two)
        write_json(data / "annotations" / "manifest.json", {"files": result.files})
        select(two)
    assert digests(data) == expected


def _stop_after(patch: pytest.MonkeyPatch, items: int) -> None:
    """Make the work item after some others end as Ctrl-C does."""
    from pipeline.work import workers

    left = [items]
    execute = workers.execute_task

    def stopping(*arguments: object) -> object:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return execute(*arguments)  # pyright: ignore[reportArgumentType]

    patch.setattr(workers, "execute_task", stopping)


def test_a_flipped_byte_in_an_annotation_is_refused(config: RunConfig) -> None:
    (path,) = (config.paths.data_dir / "annotations" / "books").glob("train_0a*.parquet")
    content = bytearray(path.read_bytes())
    columns = pq.read_metadata(path).row_group(0)
    names = [columns.column(number).path_in_schema for number in range(columns.num_columns)]
    column = columns.column(names.index("text_hash"))
    content[column.data_page_offset + 30] ^= 1
    path.write_bytes(content)
    with pytest.raises(TasksFailed, match="is damaged"):
        select(config)
