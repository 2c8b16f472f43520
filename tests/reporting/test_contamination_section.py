"""The section on questions that the run has read: which rows and figures it shows."""

import json
from pathlib import Path

from conftest import write_run_file
from fake_run import write_fake_run

from pipeline.config.run_file import load
from pipeline.evaluation.clean_scores import CleanScore, Questions
from pipeline.reporting.contamination_section import TITLE
from pipeline.reporting.report import report
from pipeline.store.files import file_record, read_json, write_json


def score(
    task: str, step: int, questions: Questions, value: float, items: int, shots: int = 0
) -> CleanScore:
    return {
        "model": f"step_{step:08d}",
        "step": step,
        "task": task,
        "shots": shots,
        "seed": 1234,
        "metric": "acc",
        "questions": questions,
        "items": items,
        "value": value,
        "standard_error": 0.05,
    }


def page_with(folder: Path, scores: list[CleanScore], is_listed: bool = True) -> str:
    config = load(write_run_file(folder))
    write_fake_run(config)
    path = config.paths.run_dir / "evaluation" / "contamination" / "scores.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in scores))
    manifest = read_json(config.paths.run_dir / "evaluation" / "manifest.json")
    if is_listed:
        manifest["files"] = {"contamination/scores.jsonl": file_record(path)}
    write_json(config.paths.run_dir / "evaluation" / "manifest.json", manifest)
    report(config)
    return (config.paths.run_dir / "report.html").read_text()


def test_without_a_search_there_is_no_section(tmp_path: Path) -> None:
    # An earlier evaluation has left its file.
    page = page_with(tmp_path, [score("piqa", 10, "dirty", 0.5, 50)], is_listed=False)
    assert "Few-shot scores" in page
    assert TITLE not in page


def test_tasks_with_read_questions_have_a_row_at_the_last_step(tmp_path: Path) -> None:
    page = page_with(
        tmp_path,
        [
            score("piqa", 10, "all", 0.111, 50),
            score("piqa", 20, "all", 0.5, 50),
            score("piqa", 20, "clean", 0.4, 40),
            score("piqa", 20, "dirty", 0.9, 8),
            score("piqa", 20, "dirty", 0.222, 8, shots=5),
            score("a<b", 20, "all", 0.7, 30),
            score("a<b", 20, "clean", 0.7, 30),
        ],
    )
    section = page.partition(TITLE)[2].partition("</section>")[0]
    assert "Questions of 1 of 2 tasks were read up to step 20" in section
    row = section.partition("<tbody>")[2].partition("</tbody>")[0]
    for shown in ("piqa", "0.500 ± 0.050", "0.400 ± 0.050", "0.900 ± 0.050", ">50<", ">40<", ">8<"):
        assert shown in row
    for left_out in ("0.111", "0.222", "0.700", "a&lt;b"):
        assert left_out not in row


def test_a_run_that_has_read_no_question_says_so(tmp_path: Path) -> None:
    page = page_with(
        tmp_path, [score("piqa", 20, "all", 0.5, 50), score("piqa", 20, "clean", 0.5, 50)]
    )
    assert "No scored question of 1 task was read up to step 20." in page
