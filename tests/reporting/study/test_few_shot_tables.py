"""What the figures of a few-shot study show: means over tasks, seeds, published scores."""

import math

import pytest

from pipeline.reporting.study.few_shot_looks import few_shot_caption, few_shot_look
from pipeline.reporting.study.few_shot_tables import ScoredRun, few_shot_tables, study_scores
from pipeline.store.counts import ModelScore
from pipeline.store.studies.figure_table import FigurePoint, FigureTable

TASKS = {"a": 0.0, "b": 0.2}
"""Task -> what it has above the run's accuracy."""


def row(
    task: str,
    step: int,
    shots: int,
    value: float,
    *,
    metric: str = "acc",
    error: float | None = 0.03,
) -> ModelScore:
    return {
        "task": task,
        "shots": shots,
        "seed": 1234,
        "metric": metric,
        "value": value,
        "standard_error": error,
        "items": 200,
        "chance": 0.25,
        "uniform": 0.2,
        "model": f"step_{step:08d}",
        "title": f"run@{step}",
        "step": step,
        "tokens": 1000 * step,
        "parameters": 1000,
    }


def scores(accuracy: float, *, error: float | None = 0.03) -> list[ModelScore]:
    """Return two tasks' scores at 0 and 5 examples, five of which add 0.1; answers have 2 bits."""
    rows: list[ModelScore] = []
    for task, more in TASKS.items():
        for k, of_examples in ((0, 0.0), (5, 0.1)):
            rows.append(row(task, 10, k, accuracy + more + of_examples, error=error))
            rows.append(row(task, 10, k, 2.0 + more, metric="bits_per_byte", error=error))
    return rows


def run(name: str, parameters: int, tokens: int, rows: list[ModelScore]) -> ScoredRun:
    return ScoredRun(name, parameters, tokens, 6.0 * parameters * tokens, rows)


RUNS = [
    run("small", 1000, 100, scores(0.3)),
    run("small, long", 1000, 1000, scores(0.4)),
    run("large", 2000, 500, scores(0.5)),
    run("not evaluated", 4000, 500, []),
]


def tables_of(runs: list[ScoredRun]) -> dict[str, FigureTable]:
    return {table.name: table for table in few_shot_tables(runs)}


def values(points: list[FigurePoint]) -> list[tuple[str, float, float]]:
    return [(point.series, point.x, round(point.y, 12)) for point in points]


def test_accuracy_over_examples_is_the_mean_over_tasks_of_the_longest_training_of_a_size() -> None:
    table = tables_of(RUNS)["accuracy_over_examples"]
    points = table.points_of("run")
    assert values(points) == [
        ("N = 1k", 0, 0.5),
        ("N = 1k", 5, 0.6),
        ("N = 2k", 0, 0.6),
        ("N = 2k", 5, 0.7),
    ]
    # Two independent tasks of 0.03: sqrt(2) x 0.03 / 2.
    error = math.sqrt(2) * 0.03 / 2
    assert points[0].low == pytest.approx(0.5 - error)
    assert points[0].high == pytest.approx(0.5 + error)
    assert values(table.points_of("chance")) == [("guessing", 0, 0.25)]


def test_accuracy_over_size_has_a_curve_for_each_number_of_examples() -> None:
    tables = tables_of(RUNS)
    assert values(tables["accuracy_over_parameters"].points_of("run")) == [
        ("k = 0", 1000, 0.5),
        ("k = 0", 2000, 0.6),
        ("k = 5", 1000, 0.6),
        ("k = 5", 2000, 0.7),
    ]
    assert values(tables["task_b"].points_of("run"))[:2] == [
        ("k = 0", 1000, 0.6),
        ("k = 0", 2000, 0.7),
    ]


def test_over_compute_every_run_is_shown() -> None:
    tables = tables_of(RUNS)
    assert values(tables["accuracy_over_compute"].points_of("run")) == [
        ("N = 1k", 600_000, 0.5),
        ("N = 1k", 6_000_000, 0.6),
        ("N = 2k", 6_000_000, 0.7),
    ]
    bits = tables["answer_bits_over_compute"]
    assert values(bits.points) == [
        ("N = 1k", 600_000, 2.1),
        ("N = 1k", 6_000_000, 2.1),
        ("N = 2k", 6_000_000, 2.1),
    ]


def test_seeds_of_a_training_are_averaged_and_their_error_is_that_of_one() -> None:
    runs = [
        run("seed 1", 1000, 100, scores(0.3, error=0.02)),
        run("seed 2", 1000, 100, scores(0.5, error=0.04)),
    ]
    (first, *_) = tables_of(runs)["accuracy_over_examples"].points_of("run")
    assert (first.y, first.name) == (pytest.approx(0.5), "")
    assert first.high == pytest.approx(0.5 + math.sqrt(2) * 0.03 / 2)
    without = [run("seed 1", 1000, 100, scores(0.3, error=None))]
    assert tables_of(without)["accuracy_over_examples"].points[0].low is None


def test_a_mean_is_over_the_tasks_that_all_runs_have() -> None:
    more = [*scores(0.3), row("c", 10, 0, 0.9)]
    found = study_scores([run("one", 1000, 100, more), run("two", 2000, 100, scores(0.5))])
    assert (found.tasks, found.incomplete) == (["a", "b"], ["c"])
    tables = tables_of([run("one", 1000, 100, more)])
    assert tables["accuracy_over_examples"].points[0].y == pytest.approx(0.4)
    assert values(tables["task_c"].points_of("run")) == [("k = 0", 1000, 0.9)]


def test_held_out_text_has_bits_but_no_answers() -> None:
    rows = [*scores(0.3), row("text", 10, 0, 1.0, metric="bits_per_byte")]
    found = study_scores([run("one", 1000, 100, rows)])
    assert {score.task for score in found.answer_bits} == {"a", "b"}
    assert tables_of([run("one", 1000, 100, rows[-1:])]) == {}


def test_published_scores_stand_beside_means_of_published_tasks_only() -> None:
    published = [row("piqa", 10, k, 0.5) for k in (0, 5)]
    tables = tables_of([run("one", 1000, 100, published)])
    points = tables["accuracy_over_parameters"].points_of("published")
    # Pythia 410m's last accuracy without examples, and GPT-2's.
    assert ("Pythia, k = 0", 405_334_016, 0.6676) in values(points)
    assert ("GPT-2, k = 0", 1_557_611_200, 0.7078) in values(points)
    assert {"Pythia 410m", "GPT-2 1.5b"} <= set(
        tables["accuracy_over_examples"].series_of("published")
    )
    mixed = tables_of([run("one", 1000, 100, [*published, *scores(0.3)])])
    assert mixed["accuracy_over_parameters"].points_of("published") == []
    assert mixed["task_piqa"].points_of("published") == points


def test_all_scores_are_in_one_table() -> None:
    lines = study_scores(RUNS).csv_text().splitlines()
    assert lines[0] == (
        "name,parameters,tokens,flops,task,metric,examples,score,standard_error,chance"
    )
    assert lines[1] == "small,1000,100,600000.0,a,acc,0,0.3,0.03,0.25"
    # 3 runs x 2 tasks x 2 numbers of examples x 2 metrics
    assert len(lines) == 1 + 24


def test_captions_name_what_is_drawn() -> None:
    found = study_scores(RUNS)
    captions = {table.name: few_shot_caption(table, found) for table in few_shot_tables(RUNS)}
    assert "mean over a, b:" in captions["accuracy_over_examples"]
    assert "Dashed: guessing." in captions["accuracy_over_examples"]
    assert "at k = 5" in captions["accuracy_over_compute"]
    assert "at k = 0" in captions["answer_bits_over_compute"]
    assert "Dashed" not in captions["answer_bits_over_compute"]
    assert not any("Grey" in caption for caption in captions.values())
    looks = {table.name: few_shot_look(table).y_label for table in few_shot_tables(RUNS)}
    assert looks["task_a"] == "accuracy, a"
