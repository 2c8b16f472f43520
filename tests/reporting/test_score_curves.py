"""Curves of scores: which points are drawn, means over seeds and families, published points."""

import json
import math
from pathlib import Path
from typing import cast

import pytest
from conftest import write_run_file
from fake_run import write_fake_run
from html_outline import Outline

from pipeline.config.run_file import load
from pipeline.evaluation.suite_scores import BenchmarkScore, SuiteScore
from pipeline.reporting.published_scores import has_published, published_points
from pipeline.reporting.report import report
from pipeline.reporting.score_curves import suite_curves, task_curves
from pipeline.store.counts import ModelScore
from pipeline.store.scores_folder import ScoresFolder


def row(
    task: str,
    step: int | None,
    shots: int,
    value: float,
    *,
    metric: str = "acc",
    seed: int = 1234,
    model: str | None = None,
    error: float | None = 0.03,
    parameters: int = 1000,
) -> ModelScore:
    return {
        "task": task,
        "shots": shots,
        "seed": seed,
        "metric": metric,
        "value": value,
        "standard_error": error,
        "items": 200,
        "chance": 0.25,
        "uniform": 0.2,
        "model": model or f"step_{step:08d}",
        "title": model or f"run@{step}",
        "step": step,
        "tokens": None if step is None else 1000 * step,
        "parameters": parameters,
    }


def test_points_are_sorted_and_told_apart() -> None:
    rows = [
        row("t", 20, 0, 0.4),
        row("t", 10, 0, 0.3),
        row("t", 20, 5, 0.5),
        row("t", 20, 0, 0.45, model="merge-1234-uniform-step_00000020"),
        row("t", 20, 0, 0.6, model="other-1@step_00000020"),
        row("t", None, 0, 0.7, model="folder-1"),
    ]
    (curves,) = task_curves(rows)
    assert [(point.tokens, point.shots) for point in curves.checkpoints] == [
        (10_000, 0), (20_000, 0), (20_000, 5),
    ]  # fmt: skip
    assert [point.score for point in curves.last] == [0.4, 0.5]
    assert [point.title for point in curves.points if point.is_merge] == [
        "merge-1234-uniform-step_00000020"
    ]
    assert {point.title for point in curves.others} == {"other-1@step_00000020", "folder-1"}
    assert (curves.chance, curves.uniform) == (0.25, 0.2)


def test_a_task_is_drawn_by_the_metric_that_it_is_compared_by() -> None:
    rows = [row("t", 10, 0, 0.3), row("t", 10, 0, 0.4, metric="acc_norm")]
    (curves,) = task_curves(rows)
    assert (curves.metric, curves.points[0].score) == ("acc_norm", 0.4)
    rows.append(row("t", 10, 0, 0.5, metric="acc_mutual_info"))
    assert task_curves(rows)[0].metric == "acc_norm"
    score = suite_score(10, "k = 0", 0.3)
    assert task_curves(rows, [score])[0].metric == "acc_norm"
    score["benchmarks"][0] |= {"task": "t", "metric": "acc"}
    assert task_curves(rows, [score])[0].metric == "acc"
    own = [{**entry, "task": "patterns"} for entry in rows]
    assert task_curves(cast("list[ModelScore]", own))[0].metric == "acc_mutual_info"


def test_seeds_of_the_examples_are_averaged_by_hand() -> None:
    rows = [row("t", 10, 5, value, seed=seed) for seed, value in enumerate((0.3, 0.4, 0.5))]
    (point,) = task_curves(rows)[0].points
    assert point.score == pytest.approx(0.4)
    # the questions' 0.03, and the examples' variance 0.01 over 3 seeds
    assert point.standard_error == pytest.approx(math.sqrt(0.03**2 + 0.01 / 3))


def test_a_family_is_drawn_as_its_mean_of_models_scored_in_all() -> None:
    rows = [
        row("mmlu_a", 10, 0, 0.2, error=0.03),
        row("mmlu_b", 10, 0, 0.4, error=0.04),
        row("mmlu_a", 20, 0, 0.3),
        row("sciq", 10, 0, 0.5),
    ]
    sciq, mmlu = task_curves(rows)
    assert (sciq.task, mmlu.task) == ("sciq", "mmlu")
    (point,) = mmlu.points
    assert point.score == pytest.approx(0.3)
    assert point.standard_error == pytest.approx(0.025)


def suite_score(step: int, shots: str, mean: float) -> SuiteScore:
    benchmarks: list[BenchmarkScore] = [
        {
            "benchmark": name,
            "task": name,
            "shots": 0,
            "metric": "acc",
            "value": mean,
            "standard_error": 0.02,
            "chance": chance,
        }
        for name, chance in (("a", 0.25), ("b", 0.5))
    ]
    return {
        "suite": "small",
        "model": f"step_{step:08d}",
        "title": f"run@{step}",
        "step": step,
        "tokens": 1000 * step,
        "shots": shots,
        "mean": mean,
        "standard_error": 0.02,
        "centred_mean": 0.1,
        "benchmarks": benchmarks,
        "missing": ["<i>storycloze"],
    }


def test_a_suite_is_drawn_as_one_task() -> None:
    scores = [suite_score(step, k, 0.4) for step in (10, 20) for k in ("k = 5", "k as published")]
    (curves,) = suite_curves(scores, [row("a", 20, 0, 0.3, parameters=77)])
    assert (curves.task, curves.chance, curves.uniform) == ("suite small", 0.375, None)
    assert [(point.step, point.label) for point in curves.points] == [
        (10, "k = 5"), (20, "k = 5"), (10, "k as published"), (20, "k as published"),
    ]  # fmt: skip
    assert [point.parameters for point in curves.last] == [77, 77]


def test_suites_are_in_the_report(tmp_path: Path) -> None:
    config = load(write_run_file(tmp_path))
    write_fake_run(config)
    folder = ScoresFolder(config.paths.run_dir / "evaluation")
    scores = [suite_score(step, "k = 5", 0.41) for step in (10, 20)]
    folder.suite.write_text(json.dumps(scores))
    report(config)
    page = (config.paths.run_dir / "report.html").read_text()
    assert Outline(page).pictures == 9
    assert page.count('<td class="figure">0.410 ± 0.020</td>') == 2
    assert "Not in the mean: &lt;i&gt;storycloze." in page


def test_published_points_are_those_of_the_source() -> None:
    points = published_points("piqa", "acc")
    last = [point for point in points if point.size == "410m" and point.shots == 0][-1]
    assert (last.tokens, last.score) == (143_000 * 2_097_152, 0.6676)
    assert len([point for point in points if (point.size, point.shots) == ("410m", 5)]) == 15
    assert published_points("no such task", "acc") == ()


def test_gpt2_is_drawn_where_its_score_is_published(tmp_path: Path) -> None:
    assert has_published("hellaswag", "acc_norm")
    assert not has_published("hellaswag", "f1")
    config = load(write_run_file(tmp_path))
    write_fake_run(config)
    table = ScoresFolder(config.paths.run_dir / "evaluation").table
    for metric, is_drawn in (("acc_norm", True), ("f1", False)):
        rows = [row("hellaswag", 10, k, 0.3, metric=metric) for k in (0, 5)]
        table.write_text("".join(f"{json.dumps(line)}\n" for line in rows))
        (config.paths.run_dir / "report.html").unlink(missing_ok=True)
        report(config)
        page = (config.paths.run_dir / "report.html").read_text()
        assert ("those of GPT-2 with 1.5 B parameters" in page) is is_drawn
        assert ("GPT-2</text>" in page or "<!-- GPT-2 -->" in page) is is_drawn


@pytest.mark.parametrize(
    ("rows", "pictures"),
    [
        ([], 0),
        ([row("sciq", 10, 0, 0.3)], 0),
        ([row("sciq", step, 0, 0.3) for step in (0, 10, 1000)], 1),
        ([row("sciq", 10, k, 0.3) for k in (0, 5)], 1),
        ([row("sciq", step, k, 0.3) for step in (10, 20) for k in (0, 5)], 2),
        (
            [
                row("sciq", 10, 0, 0.3),
                row("sciq", None, 0, 0.4, model="<b>folder", parameters=2000, error=None),
            ],
            1,
        ),
    ],
)
def test_what_has_one_point_is_not_drawn(
    tmp_path: Path, rows: list[ModelScore], pictures: int
) -> None:
    config = load(write_run_file(tmp_path))
    write_fake_run(config)
    table = ScoresFolder(config.paths.run_dir / "evaluation").table
    table.write_text("".join(f"{json.dumps(line)}\n" for line in rows))
    report(config)
    page = (config.paths.run_dir / "report.html").read_text()
    outline = Outline(page)
    assert outline.open == []
    assert outline.pictures == 8 + pictures
    assert ("Task by task" in page) is (pictures > 0)
    assert "<b>folder" not in page
