"""Which questions a run has read: at which step, in which document, against a walk over all steps."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from begun_run import begin_run
from cells_by_hand import answer, cell
from cells_by_hand import question as asked
from helpers import iterate_texts
from training_data import tokenize_texts

from pipeline.cli.trace_view import show_trace
from pipeline.config.run_sections import Executor
from pipeline.corpus.decontaminating.item_texts import ITEMS, TaskItems
from pipeline.corpus.folded_words import words_of
from pipeline.errors import DataError, UserError
from pipeline.evaluation.cells import Item, write_cell
from pipeline.evaluation.clean_scores import (
    check_contamination,
    clean_scores,
    closing_lines,
    last_read_step,
)
from pipeline.evaluation.contamination import (
    ItemReading,
    contaminated_items,
    item_passages,
    read_items_of_run,
    search_for_tasks,
    stored_items,
    write_read_items,
)
from pipeline.evaluation.item_trace import trace_item
from pipeline.evaluation.task_items import read_task_items
from pipeline.sampling.order import VERSION_RECORD
from pipeline.sampling.trace import trace_step
from pipeline.sampling.traced_run import TracedRun
from pipeline.store.files import write_json
from pipeline.store.scores_folder import FIRST_SEED, ScoresFolder, own_step

PLANTED = 60
"""Questions that a document of `prose` holds; one in each of its first documents."""
WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in ("ll", "mp", "nd", "st")]


def question(number: int) -> tuple[str, str]:
    """Return a question and its answer, in words that follow each other in no other question."""
    source = random.Random(number)
    words = source.sample(WORDS, 16 if number % 4 else 10)
    return f"Question: What of {' '.join(words[:-2])}?\nAnswer:", f" {' '.join(words[-2:])}"


def planted(number: int) -> str:
    """Return the text of a question, some in other case, spacing and punctuation."""
    prompt, answer = question(number)
    core = prompt.removeprefix("Question: What of ").removesuffix("\nAnswer:")
    if number % 3 == 1:
        return f"{core.upper()}{answer}"
    if number % 3 == 2:
        return f"({core.replace(' ', '  -- ')}){answer.replace(' ', ' ... ')}"
    return f"{core}{answer}"


def write_items(tasks_dir: Path, task: str, items: Sequence[tuple[str, str]]) -> TaskItems:
    rows = [
        {
            "id": number,
            "hash": f"hash{number}",
            "prompt": prompt,
            "answers": [" something else", answer],
            "right": [1],
        }
        for number, (prompt, answer) in enumerate(items)
    ]
    (tasks_dir / task).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=ITEMS), tasks_dir / task / "items.parquet")
    (tasks_dir / task / "source.json").write_text("{}")
    return read_task_items(tasks_dir, task)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tokenized corpus: question i stands in document i of `prose`."""
    folder = tmp_path_factory.mktemp("contaminated")
    source = random.Random(0)
    prose = [
        " ".join(source.choices(WORDS, k=20)) + f". {planted(number)} " + source.choice(WORDS)
        for number in range(PLANTED)
    ]
    sums = [
        f"{number} and {number} make {2 * number}, which is no question" for number in range(60)
    ]
    tokenize_texts(folder, prose, sums)
    return folder


@pytest.fixture(scope="module")
def task(folder: Path) -> TaskItems:
    """Return a task of the planted questions, then one that no document holds and a short one."""
    items = [question(number) for number in range(PLANTED)]
    items += [("Question: What of kell nobody has ever written it down here?\nAnswer:", " no one")]
    items += [("Question: What of dull?\nAnswer:", " nothing")]
    return write_items(folder / "tasks", "riddles", items)


def begin(folder: Path, name: str, *overrides: str) -> TracedRun:
    return begin_run(folder / "run.yaml", [f"paths.run_dir={folder / name}", *overrides])


def read_by_walking(run: TracedRun, task: TaskItems) -> dict[int, tuple[int, str]]:
    """Return the first step that reads each question, and the document, by reading all steps."""
    # Where each question stands in its document, in bytes.
    documents = run.config.paths.data_dir / "documents"
    places: dict[str, tuple[int, int, int]] = {}
    for identity, text in iterate_texts(documents, "prose", "train"):
        for number in range(PLANTED):
            start = text.find(planted(number))
            if start >= 0:
                places[identity] = (number, start, start + len(planted(number)))

    # Which bytes of a document each step reads.
    first_reads: dict[int, tuple[int, str]] = {}
    for step in range(1, run.config.total_steps + 1):
        for row in trace_step(run, step)["rows"]:
            for part in row["documents"]:
                number, start, end = places.get(part["id"], (-1, 0, 0))
                if number < 0 or number in first_reads:
                    continue
                begin, stop = run.documents[0].find(part["shard"], part["row"]) or (0, 0)
                ids = run.data.sources[0].stream.read(begin, stop - begin).tolist()
                byte_ends = [
                    sum(len(run.pieces.of_id[i]) for i in ids[: token + 1])
                    for token in range(len(ids))
                ]
                byte_starts = [0, *byte_ends[:-1]]
                tokens = range(part["first"], part["end"])
                if any(byte_starts[t] < end and byte_ends[t] > start for t in tokens):
                    first_reads[number] = (step, part["id"])
    return first_reads


@pytest.mark.parametrize("packing", ["concatenate", "best-fit"])
def test_a_question_is_dirty_from_the_step_that_read_it(
    folder: Path, task: TaskItems, packing: str
) -> None:
    run = begin(folder, packing, f"data.packing={packing}", "train.train_tokens=3072")
    search_for_tasks(run.config, [task], Executor(workers=1), "pytest")
    items = read_items_of_run(run, task)
    expected = read_by_walking(run, task)
    assert 10 < len(expected) < PLANTED - 10
    assert {
        item.id: (item.first_step, item.document) for item in items if item.first_step
    } == expected
    last = run.config.total_steps
    for step in (0, 3, last):
        states = contaminated_items(run, task, step)
        assert {number for number, state in states.items() if state == "dirty"} == {
            number for number, (first, _) in expected.items() if first <= step
        }
        assert (states[PLANTED], states[PLANTED + 1]) == ("clean", "too short")


def test_held_out_documents_do_not_count(folder: Path, task: TaskItems) -> None:
    run = begin(folder, "held_out", "train.train_tokens=51200")
    search_for_tasks(run.config, [task], Executor(workers=1), "pytest")
    items = read_items_of_run(run, task)
    documents = run.config.paths.data_dir / "documents"
    held_out = {
        number
        for _, text in iterate_texts(documents, "prose", "validation")
        for number in range(PLANTED)
        if planted(number) in text
    }
    assert held_out
    # The run has read every training document.
    for item in items[:PLANTED]:
        is_held_out = item.id in held_out
        assert (item.documents, item.held_out) == (int(not is_held_out), int(is_held_out))
        assert item.state_at(10**6) == ("clean" if is_held_out else "dirty")
    assert items[PLANTED].documents == items[PLANTED].held_out == 0


def test_a_source_that_is_not_trained_on_makes_nothing_dirty(folder: Path, task: TaskItems) -> None:
    run = begin(folder, "without", "data.mixture={prose: 0, sums: 1}")
    search_for_tasks(run.config, [task], Executor(workers=1), "pytest")
    items = read_items_of_run(run, task)
    assert sum(item.documents for item in items) > 30
    assert {item.first_step for item in items} == {None}


def test_passages_hold_the_question(folder: Path, task: TaskItems) -> None:
    run = begin(folder, "passages")
    search_for_tasks(run.config, [task], Executor(workers=1), "pytest")
    passages = item_passages(run.config, task.searched)
    assert len(passages) == PLANTED
    documents = run.config.paths.data_dir / "documents"
    texts = {
        identity: text
        for split in ("train", "validation")
        for identity, text in iterate_texts(documents, "prose", split)
    }
    for passage in passages:
        start, end = passage.found["start"], passage.found["end"]
        content = texts[passage.document].encode()[start:end].decode()
        assert words_of(content) == task.words[passage.found["text"]]


def test_what_all_prompts_have_in_common_is_not_searched_for(folder: Path, tmp_path: Path) -> None:
    items = [question(number) for number in range(12)]
    task = write_items(tmp_path, "twelve", items)
    for (prompt, right), words in zip(items, task.words, strict=True):
        core = prompt.removeprefix("Question: What of ").removesuffix("\nAnswer:")
        assert words == words_of(core + right)
    # Few questions may have a word in common by accident.
    few = write_items(tmp_path, "few", items[:2])
    assert few.words[0] == words_of("".join(items[0]))
    # Prompts that are all the same leave the answers.
    same = write_items(tmp_path, "same", [("Go on:", f" word{number}") for number in range(12)])
    assert same.words == [[f"word{number}"] for number in range(12)]
    # Some tasks write the whole text as the answer, with the same examples before each.
    whole = [("", f"An example: yes. Then word{number} is") for number in range(12)]
    assert write_items(tmp_path, "whole", whole).words == [
        [f"word{number}", "is"] for number in range(12)
    ]


def test_the_file_of_a_run_is_read_back(tmp_path: Path) -> None:
    items = [
        ItemReading(0, "a", 20, 2, 0, 17, "web/train_0_000/3"),
        ItemReading(1, "b", 7, 0, 1, None, None),
    ]
    assert stored_items(tmp_path, "riddles") is None
    write_read_items(tmp_path, "riddles", items)
    assert stored_items(tmp_path, "riddles") == items
    assert [item.state_at(17) for item in items] == ["dirty", "too short"]
    assert items[0].state_at(16) == "clean"
    path = tmp_path / "evaluation" / "contamination" / "riddles.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"riddles\.parquet: is damaged .*`pipeline evaluate`"):
        stored_items(tmp_path, "riddles")


def test_unknown_tasks_and_damaged_questions_are_refused(tmp_path: Path) -> None:
    write_items(tmp_path, "hellaswag", [question(1)])
    fetch = f"pipeline tasks fetch hellaswag --to {tmp_path}"
    unknown = (
        r"has those of 1 task, and no public task has this name; did you mean hellaswag or .*\? "
        rf"`pipeline tasks list {tmp_path} --known`"
    )
    with pytest.raises(UserError, match=unknown):
        read_task_items(tmp_path, "hellaswg")
    with pytest.raises(UserError, match=rf"copa: its questions are not in .*copa --to {tmp_path}"):
        read_task_items(tmp_path, "copa")
    with pytest.raises(UserError, match=r"is a group of tasks\. Name one of them, such as mmlu_"):
        read_task_items(tmp_path, "mmlu_stem")
    (tmp_path / "hellaswag" / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=fetch):
        read_task_items(tmp_path, "hellaswag")
    (tmp_path / "hellaswag" / "items.parquet").unlink()
    with pytest.raises(DataError, match=rf"items\.parquet: is missing\. Run `{fetch}`"):
        read_task_items(tmp_path, "hellaswag")


def test_a_built_in_question_is_not_sought(folder: Path) -> None:
    run = begin(folder, "built-in")
    with pytest.raises(UserError, match="arithmetic/5: arithmetic is a built-in task, whose"):
        trace_item(run, "arithmetic/5")


def test_a_question_is_traced_to_its_documents_and_steps(
    folder: Path, task: TaskItems, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(folder, "traced", f"evaluation.tasks_dir={folder / 'tasks'}")
    search_for_tasks(run.config, [task], Executor(workers=1), "pytest")
    items = read_items_of_run(run, task)
    read = next(item for item in items if item.first_step and item.words >= 13)
    traced = trace_item(run, f"riddles/{read.id}")
    assert (traced["first_step"], traced["completed_steps"]) == (read.first_step, 12)
    assert traced["text"] == "".join(question(read.id))
    (holder,) = traced["documents"]
    (passage,) = holder["passages"]
    assert (holder["id"], holder["held_out"]) == (read.document, False)
    assert holder["origin_file"] == "prose.jsonl"
    assert passage["text"].strip(".") in planted(read.id)
    assert words_of(passage["text"]) == task.words[read.id]
    assert passage["grams"] == read.words - 12
    # lm-eval's hash names a question too.
    assert trace_item(run, f"riddles/hash{read.id}") == traced

    # What the terminal shows.
    shown = printed(run, f"riddles/{read.id}", capsys)
    assert f"{read.words} words; 13 of them in a row are in 1 document; first read at" in shown
    assert f"\n{read.document}\n    prose.jsonl, row " in shown
    assert f"  {read.words - 12} n-grams in bytes {passage['start']} to {passage['end']}" in shown
    assert f"  step {read.first_step}, row " in shown
    short = next(item for item in items if item.words == 10 and item.documents)
    assert "10 words; 10 of them in a row are in 1 document" in printed(
        run, f"riddles/{short.id}", capsys
    )
    assert "10 words; no document holds 10 of them in a row" in printed(
        run, f"riddles/{PLANTED}", capsys
    )
    assert "2 words: too short to be searched for" in printed(run, f"riddles/{PLANTED + 1}", capsys)
    held_out = next(item for item in items if item.held_out)
    shown = printed(run, f"riddles/{held_out.id}", capsys)
    assert "no step of this run reads them" in shown
    assert "held out for validation: never trained on" in shown


def printed(run: TracedRun, item: str, capsys: pytest.CaptureFixture[str]) -> str:
    show_trace(
        run.config.paths.run_dir,
        [],
        step=None,
        document=None,
        item=item,
        rank=None,
        row=None,
        limit=20,
        as_json=False,
    )
    return capsys.readouterr().out


def test_wrong_questions_are_refused(folder: Path, task: TaskItems) -> None:
    run = begin(folder, "refused", f"evaluation.tasks_dir={folder / 'tasks'}")
    for key, message in (
        ("riddles/900", r"riddles has no question 900; its ids are 0 to 61"),
        ("17", "give TASK/ID"),
        ("riddle/1", r"did you mean riddles\?"),
    ):
        with pytest.raises(UserError, match=message):
            trace_item(run, key)
    without = begin(folder, "without_tasks")
    with pytest.raises(UserError, match=r"evaluation\.tasks_dir is not set"):
        trace_item(without, "riddles/1")


def answered(number: int, is_right: bool) -> Item:
    answers = [answer(-1.0 - is_right, "wrong", 1), answer(-2.0 + is_right, "right", 1)]
    return asked(number, answers, [1])


def test_scores_with_and_without_what_was_read_by_hand() -> None:
    items = [
        ItemReading(0, "a", 20, 1, 0, 3, "web/train_0_000/3"),
        ItemReading(1, "b", 20, 1, 0, 12, "web/train_0_000/4"),
        ItemReading(2, "c", 20, 0, 0, None, None),
        ItemReading(3, "d", 5, 0, 0, None, None),
        ItemReading(4, "e", 20, 0, 0, None, None),
    ]
    # The last question was not scored: evaluation.limit.
    scored = cell([answered(number, is_right) for number, is_right in enumerate([1, 0, 0, 1])])
    for step, expected in (
        (10, {"all": (0.5, 4), "clean": (0.0, 2), "dirty": (1.0, 1)}),
        (12, {"all": (0.5, 4), "clean": (0.0, 1), "dirty": (0.5, 2)}),
        (2, {"all": (0.5, 4), "clean": (1 / 3, 3)}),
    ):
        rows = clean_scores("riddles", scored, items, step)
        assert {
            row["questions"]: (pytest.approx(row["value"]), row["items"])
            for row in rows
            if row["metric"] == "acc"
        } == expected
    (error,) = (
        row["standard_error"]
        for row in clean_scores("riddles", scored, items, 12)
        if row["metric"] == "acc" and row["questions"] == "dirty"
    )
    assert error == 0.5  # sqrt(((1 - 0.5)^2 + (0 - 0.5)^2) / 1 / 2)


def test_the_stage_scores_its_checkpoints_without_what_they_had_read(
    folder: Path, task: TaskItems
) -> None:
    run = begin(folder, "scored", f"evaluation.tasks_dir={folder / 'tasks'}", "executor.workers=1")
    run_dir = run.config.paths.run_dir
    places = ScoresFolder(run_dir / "evaluation")
    scored = cell([answered(number, number % 2 == 0) for number in range(PLANTED + 2)])
    for model in ("step_00000010", "of-another-run@step_00000010"):
        write_cell(places.cell(model, "riddles", 0, FIRST_SEED), scored)
        write_cell(places.cell(model, "unknown", 0, FIRST_SEED), scored)
    report = check_contamination(run.config, ["riddles", "unknown"], [10])

    # The files, and what they say.
    assert [path.name for path in report.files] == ["riddles.parquet", "scores.jsonl"]
    stored = stored_items(run_dir, "riddles")
    assert stored == read_items_of_run(run, task)
    assert stored is not None
    dirty = [item.id for item in stored if item.state_at(10) == "dirty"]
    rows = [json.loads(line) for line in report.files[1].read_text().splitlines()]
    assert {(row["model"], row["task"]) for row in rows} == {("step_00000010", "riddles")}
    (row,) = (row for row in rows if (row["metric"], row["questions"]) == ("acc", "dirty"))
    right = sum(number % 2 == 0 for number in dirty) / len(dirty)
    assert (row["items"], row["value"]) == (len(dirty), pytest.approx(right))
    of_task, of_all = report.closing
    assert of_task.startswith(
        f"contamination: riddles: {len(dirty)} of {PLANTED + 2} questions were read by step 10; "
        "acc at k = 0: 0.500 on 62 scored, "
    )
    assert of_task.endswith(f"{right:.3f} on {len(dirty)} dirty")
    assert "questions of 1 task of 1 were read" in of_all
    assert "(1 of 62 questions are too short to tell)" in of_all


def test_a_task_whose_texts_are_missing_is_named(folder: Path, task: TaskItems) -> None:
    """A task that has no questions in the folder, such as a built-in one, is not."""
    run = begin(folder, "texts-missing", f"evaluation.tasks_dir={folder / 'tasks'}")
    (folder / "tasks" / "sums").mkdir()
    (folder / "tasks" / "sums" / "source.json").write_text("{}")
    missing = (
        f"contamination: sums is left out: {folder}/tasks/sums/items.parquet is missing. "
        f"Run `pipeline tasks fetch sums --to {folder}/tasks`"
    )
    report = check_contamination(run.config, ["arithmetic", "sums"], [10])
    assert [line[: len(missing)] for line in report.closing] == [missing]
    *_, last = check_contamination(run.config, ["riddles", "sums"], [10]).closing
    assert last.startswith(missing)


def test_scores_do_not_fail_where_the_order_of_the_run_is_not_known(
    folder: Path, task: TaskItems
) -> None:
    run = begin(folder, "of_another_version", f"evaluation.tasks_dir={folder / 'tasks'}")
    write_json(run.config.paths.run_dir / "run.json", {VERSION_RECORD: 99})
    report = check_contamination(run.config, ["riddles"], [10])
    assert report.files == []
    (line,) = report.closing
    assert "what the run read is not known" in line
    assert "version 99 of the order" in line


def test_the_last_lines_name_the_dirtiest_tasks() -> None:
    def reading(number: int, is_read: bool) -> ItemReading:
        if is_read:
            return ItemReading(number, "", 20, 1, 0, 5, "web/train_0_000/3")
        return ItemReading(number, "", 20, 0, 0, None, None)

    readings = {
        f"task{dirty}": [reading(number, number < dirty) for number in range(20)]
        for dirty in range(13)
    }
    lines = closing_lines(readings, [], 5)
    assert lines[0] == "contamination: task12: 12 of 20 questions were read by step 5"
    assert lines[9].startswith("contamination: task3: 3 of 20 questions")
    assert lines[10:] == [
        "contamination: and of 2 more tasks",
        "contamination: questions of 12 tasks of 13 were read in training documents by step 5 "
        "(0 of 260 questions are too short to tell)",
    ]
    (line,) = closing_lines(readings, [], 4)
    assert line.startswith("contamination: questions of no task of 13 were read")


def test_only_checkpoints_of_the_run_itself_are_judged() -> None:
    assert own_step("step_00000010", 10) == 10
    assert own_step("other@step_00000010", 10) is None
    assert own_step("gpt2-0123abcd", None) is None
    assert own_step("merge-01234567-linear-step_00000010", 10) is None
    assert last_read_step("merge-01234567-linear-step_00000010", 10) == 10
    assert last_read_step("other@merge-01234567-linear-step_00000010", 10) is None
    assert last_read_step("merge-run-01234567@step_00000010", 10) is None
    assert last_read_step("step_00000010", 10) == 10
