"""What `select` keeps of a comparison: another threshold starts at its rounds, with the bytes of a fresh start."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from curation import write_corpus
from helpers import digests

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.annotating.annotate import annotate
from pipeline.corpus.near_duplicates import groups
from pipeline.corpus.selecting.select import select
from pipeline.errors import DataError
from pipeline.store.files import write_json
from pipeline.work import workers

RUN = """\
paths: {data_dir: data, run_dir: run}
executor: {workers: 1}
sources:
  web: {kind: jsonl, paths: [web.jsonl]}
  books: {kind: jsonl, paths: [books.jsonl]}
annotate: {signals: [rps_doc_word_count], language: false, pii: false, paragraphs: false}
select:
  near_duplicates: {threshold: 0.8}
  max_removed: {default: 1}
"""
BEFORE_THE_ROUNDS = {"write_band_records", "write_groups", "write_shingles"}


def text(seed: int, changed: int = 0) -> str:
    words = [f"word{number}" for number in random.Random(seed).choices(range(500), k=60)]
    return " ".join([*words[: 60 - changed], *(f"other{seed}x{n}" for n in range(changed))])


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    """Return a run file whose documents are annotated: copies that differ in 1 to 7 words of 60."""
    data = tmp_path / "data"
    write_corpus(data, "web", [text(1), text(2), text(3), text(4)])
    write_corpus(data, "books", [text(1, 1), text(2, 4), text(3, 7), text(4, 7), text(8)])
    (tmp_path / "run.yaml").write_text(RUN)
    shutil.rmtree(data / "annotations")
    result = annotate(load(tmp_path / "run.yaml", needs=()))
    write_json(data / "annotations" / "manifest.json", {"files": result.files})
    return tmp_path / "run.yaml"


def config_of(run_yaml: Path, threshold: float, *settings: str) -> RunConfig:
    return load(run_yaml, [f"select.near_duplicates.threshold={threshold}", *settings], needs=())


@contextmanager
def work_items(monkeypatch: pytest.MonkeyPatch, stop_after: int = 10**6) -> Iterator[set[str]]:
    """Collect the functions of the work items; end as Ctrl-C does after some of them."""
    functions: set[str] = set()
    left = [stop_after]
    execute = workers.execute_task

    def counting(task: workers.Task, *arguments: object) -> object:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        functions.add(task.function.__name__)
        return execute(task, *arguments)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(workers, "execute_task", counting)
        yield functions


def fresh(config: RunConfig) -> dict[str, str]:
    """Return the bytes of a start without anything that was kept; keep the folder as it is."""
    folder = config.paths.data_dir / "selection"
    folder.rename(folder.with_name("aside"))
    select(config)
    made = digests(folder)
    shutil.rmtree(folder)
    folder.with_name("aside").rename(folder)
    return made


@pytest.mark.parametrize("large_group", [64, 1])
def test_another_threshold_starts_at_the_rounds(
    run_yaml: Path, monkeypatch: pytest.MonkeyPatch, large_group: int
) -> None:
    monkeypatch.setattr(groups, "LARGE_GROUP", large_group)
    folder = run_yaml.parent / "data" / "selection"
    select(config_of(run_yaml, 0.8))
    expected = {0.8: digests(folder), 0.5: fresh(config_of(run_yaml, 0.5))}
    assert expected[0.8] != expected[0.5]
    for threshold in (0.5, 0.8):
        with work_items(monkeypatch) as functions:
            select(config_of(run_yaml, threshold))
        # Of large groups the groups by rarest shingles depend on the threshold.
        assert functions & BEFORE_THE_ROUNDS == ({"write_groups"} if large_group == 1 else set())
        assert digests(folder) == expected[threshold]
        kept = {path.name for path in (folder / ".comparison").iterdir() if path.is_dir()}
        assert kept == {"groups", "sets"}


def test_kills_leave_the_bytes_of_a_fresh_start(
    run_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    select(config_of(run_yaml, 0.8))
    config = config_of(run_yaml, 0.5)
    expected = fresh(config)
    starts = 0
    is_done = False
    while not is_done:
        starts += 1
        with work_items(monkeypatch, 2) as functions, suppress(KeyboardInterrupt):
            select(config)
            is_done = True
        assert not functions & BEFORE_THE_ROUNDS
    assert starts > 3
    assert digests(run_yaml.parent / "data" / "selection") == expected


def test_what_is_gone_is_made_again(run_yaml: Path) -> None:
    folder = run_yaml.parent / "data" / "selection"
    comparison = folder / ".comparison"
    select(config_of(run_yaml, 0.8))
    expected = digests(folder)
    for gone in ("groups", "sets", "bands.json", "."):
        if gone == "bands.json":
            (comparison / gone).unlink()
        elif gone == ".":
            shutil.rmtree(comparison)
        else:
            next(path for path in (comparison / gone).glob("[!.]*/*") if path.is_file()).unlink()
        select(config_of(run_yaml, 0.8))
        assert digests(folder) == expected


def test_other_documents_replace_what_is_kept(
    run_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    select(config_of(run_yaml, 0.8))
    comparison = run_yaml.parent / "data" / "selection" / ".comparison"
    assert len(list(comparison.glob("sets/*/*.sets"))) == 2
    # What takes part decides: a rule that all documents pass changes nothing.
    for fewest in (60, 61):
        rule = f"select.rules=[rps_doc_word_count >= {fewest}]"
        refused = pytest.raises(DataError, match="no document is left")
        with work_items(monkeypatch) as functions, refused if fewest == 61 else nullcontext():
            select(config_of(run_yaml, 0.8, rule))
        assert ("write_band_records" in functions) == (fewest == 61)
    # Without one of the sources its files go, and without the section all of them.
    web = RUN.replace("  books: {kind: jsonl, paths: [books.jsonl]}\n", "")
    run_yaml.write_text(web)
    select(config_of(run_yaml, 0.8))
    assert len(list(comparison.glob("sets/*/*.sets"))) == 1
    run_yaml.write_text(web.replace("  near_duplicates: {threshold: 0.8}\n", ""))
    select(load(run_yaml, needs=()))
    assert not comparison.exists()
