"""Documents that hold questions: what counts, what is cut or removed, and the evidence."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from questions import words, write_questions

from pipeline.config.curation.decontaminate_section import Decontaminate
from pipeline.config.run_sections import Executor
from pipeline.corpus.annotating.annotation_file import AnnotationWriter
from pipeline.corpus.annotating.columns import column_of
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.text_hash import TextHash
from pipeline.corpus.decontaminating.common_grams import read_common_grams
from pipeline.corpus.decontaminating.contamination_part import HITS, Contamination
from pipeline.corpus.decontaminating.cutting import spans_to_cut
from pipeline.corpus.decontaminating.decontaminate import (
    Decontaminated,
    decontaminate,
    read_contaminated,
    read_evidence,
)
from pipeline.corpus.decontaminating.decontamination_folder import DecontaminationFolder
from pipeline.corpus.decontaminating.searched_tasks import searched_tasks
from pipeline.corpus.documents import ShardWriter
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard
from pipeline.store.files import fingerprint
from pipeline.work.workers import workers

QUESTIONS = [words("a", 20), words("b", 12), words("common", 13), words("d", 30), "No, why?", "Yes"]
Action = Literal["remove", "cut", "report"]


def annotated_shard(
    folder: Path,
    source: str,
    texts: Sequence[str],
    fewest: int = 8,
    tasks: Path | None = None,
) -> ComparedShard:
    """Write documents and what the parts `contamination` and `text_hash` say of them."""
    (folder / source).mkdir(parents=True)
    writer = ShardWriter(folder / source, "train", "00", 10**8)
    for row, text in enumerate(texts):
        writer.add(text.encode(), b"{}", b"raw", row)
    name = next(name for name in writer.close() if name.endswith(".parquet"))
    section = Decontaminate(tasks=("quiz",), fewest_words=fewest)
    part = Contamination(searched_tasks(section, tasks or folder / "tasks"))
    hits = [part.values(DocumentText(text))[0] for text in texts]
    hashes = [TextHash().values(DocumentText(text))[0] for text in texts]
    annotations = folder / "annotations" / source / name
    fields = [*part.fields(), *TextHash().fields()]
    with AnnotationWriter(annotations, fields, "sum", {}) as file:
        columns = [column_of(hits, HITS.type), column_of(hashes, fields[1].type)]
        file.add([pa.array([""] * len(texts)), *columns])
        file.finish()
    return ComparedShard(
        source=source,
        stem=Path(name).stem,
        documents=folder / source / name,
        checksum="sum",
        annotations=annotations,
        keep=None,
        group=0,
        rows=len(texts),
        file_bytes=1,
        fingerprint=fingerprint(list(texts)),
    )


def decontaminated(
    folder: Path,
    texts: dict[str, list[str]],
    action: Action = "remove",
    limit: int = 2,
    fewest: int = 8,
) -> Decontaminated:
    """Search the texts of some sources for the questions."""
    write_questions(folder / "tasks", "quiz", QUESTIONS)
    shards = [annotated_shard(folder, source, texts[source], fewest) for source in texts]
    section = Decontaminate(
        tasks=("quiz",), action=action, common_documents=limit, fewest_words=fewest
    )
    tasks = searched_tasks(section, folder / "tasks")
    with workers(Executor(workers=1)) as crew:
        return decontaminate(shards, folder / "work", crew, section, tasks)


def rows_of(found: Decontaminated, source: str) -> list[dict[str, Any]]:
    return read_contaminated(found.paths[f"{source}~train_00_000"]).to_pylist()


def evidence_of(found: Decontaminated, source: str) -> list[dict[str, Any]]:
    return read_evidence(found.evidence[f"{source}~train_00_000"]).to_pylist()


def common_of(found: Decontaminated, source: str) -> dict[str, int]:
    rows = read_common_grams(found.common[source]).to_pylist()
    return {row["gram"]: row["documents"] for row in rows}


def test_document_that_holds_a_question_is_removed_with_evidence(tmp_path: Path) -> None:
    held = f"é {QUESTIONS[1].upper()}, and {' '.join(QUESTIONS[0].split()[2:17])} ."
    found = decontaminated(tmp_path, {"web": ["nothing here", held]})
    assert rows_of(found, "web") == [{"row": 1, "keep": False, "spans": []}]
    first, second = sorted(evidence_of(found, "web"), key=lambda row: row["start"])
    assert first["task"] == second["task"] == "quiz"
    assert (first["item"], first["kind"], first["gram"]) == (101, "whole", QUESTIONS[1])
    assert held[first["start"] : first["end"]] == QUESTIONS[1].upper() + ","
    assert (second["item"], second["kind"]) == (100, "13-gram")
    assert second["gram"] == " ".join(QUESTIONS[0].split()[2:15])
    assert held[second["start"] : second["end"]] == " ".join(QUESTIONS[0].split()[2:17])
    assert (found.documents, found.removed, found.cut) == (1, 1, 0)


def test_ngram_of_many_documents_of_a_source_is_left_out_and_listed(tmp_path: Path) -> None:
    common = QUESTIONS[2]
    texts = {
        "web": [f"{number} {common}" for number in range(3)] + [f"{common} {QUESTIONS[0]}"],
        "books": [f"{common}. {common}", "nothing"],
    }
    found = decontaminated(tmp_path, texts)
    # Four documents of one source hold it, more than two; in the other source one does, twice.
    assert common_of(found, "web") == {common: 4}
    assert common_of(found, "books") == {}
    assert [row["row"] for row in rows_of(found, "web")] == [3]
    assert {row["item"] for row in evidence_of(found, "web")} == {100}
    assert [row["row"] for row in rows_of(found, "books")] == [0]
    assert found.common_grams == 1
    # One question does not count in the four documents; in the last of them another one does.
    assert (found.left_out, found.left_out_questions) == (4, 1)
    (listed,) = read_common_grams(found.common["web"]).to_pylist()
    assert listed["questions"] == [{"task": "quiz", "item": 102}]


def test_copies_of_a_text_are_no_common_phrase(tmp_path: Path) -> None:
    page = f"page {QUESTIONS[0]}"
    copies = [[page] * 5, [page] * 4 + [f"other {QUESTIONS[0]}"]]
    write_questions(tmp_path / "tasks", "quiz", QUESTIONS)
    first = annotated_shard(tmp_path / "a", "web", copies[0], tasks=tmp_path / "tasks")
    second = annotated_shard(tmp_path / "b", "web", copies[1], tasks=tmp_path / "tasks")
    shards = [first, replace(second, stem="train_01_000")]
    section = Decontaminate(tasks=("quiz",), common_documents=2)
    tasks = searched_tasks(section, tmp_path / "tasks")
    with workers(Executor(workers=1)) as crew:
        found = decontaminate(shards, tmp_path / "work", crew, section, tasks)
        assert (found.removed, found.left_out) == (10, 0)
        # A third text that holds it makes it a common phrase, wherever it stands.
        third = annotated_shard(
            tmp_path / "c", "web", [f"3 {QUESTIONS[0]}"], tasks=tmp_path / "tasks"
        )
        for position in range(3):
            named = [*shards]
            named.insert(position, replace(third, stem=f"train_0{position}_001"))
            found = decontaminate(named, tmp_path / f"work{position}", crew, section, tasks)
            assert (found.removed, found.left_out, found.left_out_questions) == (0, 11, 1)
            assert {*common_of(found, "web").values()} == {11}


def test_lists_of_texts_do_not_depend_on_rows_and_hold_no_more_than_is_needed(
    tmp_path: Path,
) -> None:
    texts = [f"{number} {QUESTIONS[1]}" for number in range(9)]
    listed: list[list[dict[str, Any]]] = []
    for name, order in (("up", texts), ("down", texts[::-1])):
        found = decontaminated(tmp_path / name, {"web": order})
        grams = DecontaminationFolder(tmp_path / name / "work").grams
        listed.append(pq.read_table(grams.of_shard("web~train_00_000")).to_pylist())
        assert common_of(found, "web") == {QUESTIONS[1]: 9}
    assert listed[0] == listed[1]
    ((gram, documents, hashes),) = (tuple(row.values()) for row in listed[0])
    assert (gram, documents) == (QUESTIONS[1], 9)
    smallest = sorted(TextHash().values(DocumentText(text))[0] for text in texts)[:3]
    assert hashes == smallest


def test_short_questions_are_found_and_common_ones_left_out(tmp_path: Path) -> None:
    texts = {"web": ["Yes.", "yes", "«Yes»! No why", "no: why", "yes"]}
    assert rows_of(decontaminated(tmp_path / "default", texts), "web") == []
    found = decontaminated(tmp_path / "all", texts, fewest=1)
    # Three texts of the source hold `yes`, more than two, one of them twice.
    assert common_of(found, "web") == {"yes": 4}
    assert [row["row"] for row in rows_of(found, "web")] == [2, 3]
    assert {row["gram"] for row in evidence_of(found, "web")} == {"no why"}


def test_common_middle_divides_a_passage(tmp_path: Path) -> None:
    parts = QUESTIONS[3].split()
    middle = " ".join(parts[:17])
    texts = [f"{number} {middle}" for number in range(3)]
    found = decontaminated(tmp_path, {"web": [*texts, QUESTIONS[3]]})
    # The first five 13-grams stand in four documents. The others begin with the sixth word.
    assert len(common_of(found, "web")) == 5
    (passage,) = evidence_of(found, "web")
    assert passage["gram"] == " ".join(parts[5:18])
    assert passage["end"] == len(QUESTIONS[3])


def test_held_out_files_stay_with_their_evidence(tmp_path: Path) -> None:
    write_questions(tmp_path / "tasks", "quiz", QUESTIONS)
    shard = replace(annotated_shard(tmp_path, "held", [QUESTIONS[0]]), always_stays=True)
    section = Decontaminate(tasks=("quiz",))
    with workers(Executor(workers=1)) as crew:
        tasks = searched_tasks(section, tmp_path / "tasks")
        found = decontaminate([shard], tmp_path / "work", crew, section, tasks)
    assert rows_of(found, "held") == [{"row": 0, "keep": True, "spans": []}]
    assert len(evidence_of(found, "held")) == 1


def test_report_keeps_all(tmp_path: Path) -> None:
    found = decontaminated(tmp_path, {"web": [QUESTIONS[0]]}, action="report")
    assert rows_of(found, "web") == [{"row": 0, "keep": True, "spans": []}]
    assert len(evidence_of(found, "web")) == 1
    assert (found.removed, found.cut) == (0, 0)


def test_cut_takes_the_passage_and_its_surroundings(tmp_path: Path) -> None:
    before = "x " * 300
    after = " y" * 300
    text = f"{before}{QUESTIONS[0]}{after}"
    found = decontaminated(tmp_path, {"web": [text, QUESTIONS[0]]}, action="cut")
    end = 600 + len(QUESTIONS[0])
    assert rows_of(found, "web") == [
        {"row": 0, "keep": True, "spans": [{"start": 400, "end": end + 200}]},
        {"row": 1, "keep": False, "spans": []},
    ]
    assert (found.removed, found.cut) == (1, 1)


@pytest.mark.parametrize(
    ("shared", "length", "expected"),
    [
        ([], 1000, []),
        ([(500, 510)], 1000, [(300, 710)]),
        # 199 characters before the first cut are too few to keep, 200 are not; so after the last.
        ([(399, 500)], 1000, [(0, 700)]),
        ([(400, 500)], 900, [(200, 700)]),
        ([(400, 500)], 899, [(200, 899)]),
        # Between two cuts.
        ([(1000, 1010), (1609, 1620)], 3000, [(800, 1820)]),
        ([(1610, 1620), (1000, 1010)], 3000, [(800, 1210), (1410, 1820)]),
        # One inside the surroundings of another.
        ([(1000, 2000), (1100, 1110)], 3000, [(800, 2200)]),
        # Nothing is left.
        ([(0, 10)], 300, None),
    ],
)
def test_spans_to_cut(
    shared: list[tuple[int, int]], length: int, expected: list[tuple[int, int]] | None
) -> None:
    assert spans_to_cut(shared, length) == expected


def test_document_of_more_than_ten_pieces_is_removed() -> None:
    nine = [(1000 * number, 1000 * number + 10) for number in range(1, 10)]
    cuts = spans_to_cut(nine, 10_000)
    assert cuts is not None
    assert len(cuts) == 9
    assert spans_to_cut([*nine, (10_000, 10_010)], 11_000) is None
