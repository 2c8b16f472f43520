"""A suite's score by hand: the better of two ways to ask, centred means, groups by questions."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.suites import Suite, SuiteTask
from pipeline.corpus.decontaminating.task_groups import GROUPS
from pipeline.evaluation.suite_scores import suite_scores, write_suite_scores
from pipeline.store.scores_folder import ScoresFolder


def row(task: str, shots: int, value: float, metric: str = "acc", **changes: Any) -> Any:
    return {
        "task": task,
        "shots": shots,
        "seed": 1234,
        "metric": metric,
        "value": value,
        "standard_error": 0.03,
        "items": 100,
        "chance": None,
        "uniform": None,
        "model": "step_00000010",
        "title": "run@10",
        "step": 10,
        "tokens": 2560,
        "parameters": 7,
        **changes,
    }


def task(name: str, shots: tuple[int, ...], chance: float | None, **changes: Any) -> SuiteTask:
    settings = {"metric": "acc", "formulation": "cloze", **changes}
    return SuiteTask(name=name, shots=shots, chance=chance, **settings)


def suite(*tasks: SuiteTask) -> Suite:
    return Suite(name="made", description="", tasks=tasks, missing={"gone": "why"})


def asked(made: Suite) -> dict[str, tuple[int, ...]]:
    return {task.name: task.shots for task in made.tasks}


def test_means_by_hand_at_each_number_of_examples() -> None:
    made = suite(task("copa", (0, 5), 0.5), task("sciq", (0, 5), 0.25))
    rows = [row("copa", 0, 0.5), row("sciq", 0, 0.4), row("copa", 5, 0.6), row("sciq", 5, 0.7)]
    first, second = suite_scores(made, asked(made), rows)
    assert (first["shots"], second["shots"]) == ("k = 0", "k = 5")
    assert first["mean"] == pytest.approx(0.45)
    assert second["centred_mean"] == pytest.approx((0.1 / 0.5 + 0.45 / 0.75) / 2)
    assert first["standard_error"] == pytest.approx(0.03 * math.sqrt(2) / 2)
    assert first["missing"] == ["gone"]


def test_of_two_ways_to_ask_the_better_counts() -> None:
    made = suite(
        task("olmes_piqa_cloze", (0,), 0.5, benchmark="piqa", metric="acc_norm"),
        task("olmes_piqa_letters", (0,), 0.5, benchmark="piqa"),
        task("copa", (5,), 0.5),
    )
    rows = [
        row("olmes_piqa_cloze", 0, 0.9),  # not the published metric
        row("olmes_piqa_cloze", 0, 0.6, "acc_norm"),
        row("olmes_piqa_letters", 0, 0.5),
        row("copa", 5, 0.8),
    ]
    (score,) = suite_scores(made, asked(made), rows)
    assert score["shots"] == "k as published"
    assert score["mean"] == pytest.approx(0.7)
    assert [part["task"] for part in score["benchmarks"]] == ["olmes_piqa_cloze", "copa"]


def test_a_task_with_more_numbers_than_the_others_counts_more_than_once() -> None:
    """CORE counts HellaSwag at k = 0 and 10."""
    made = suite(task("core_hellaswag", (0, 10), 0.25), task("core_copa", (0,), 0.5))
    rows = [
        row("core_hellaswag", 0, 0.25),
        row("core_hellaswag", 10, 0.4),
        row("core_copa", 0, 1.0),
    ]
    (score,) = suite_scores(made, asked(made), rows)
    assert len(score["benchmarks"]) == 3
    assert score["centred_mean"] == pytest.approx((0 + 0.2 + 1) / 3)


def test_a_group_counts_by_its_questions() -> None:
    made = suite(task("mmlu_stem", (5,), 0.25))
    subjects = GROUPS["mmlu_stem"]
    rows = [row(subject, 5, 0.2) for subject in subjects]
    rows[0] |= {"value": 0.9, "items": 100 * len(subjects)}
    (score,) = suite_scores(made, asked(made), rows)
    large = len(subjects)
    others = large - 1
    assert score["mean"] == pytest.approx((0.9 * large + 0.2 * others) / (large + others))


def test_a_suite_without_tasks_has_no_score() -> None:
    assert suite_scores(suite(), {}, [row("copa", 0, 0.5)]) == []


def test_an_incomplete_suite_has_no_score() -> None:
    made = suite(task("copa", (0,), 0.5), task("sciq", (0,), 0.25))
    assert suite_scores(made, asked(made), [row("copa", 0, 0.5)]) == []
    other_seed = [row("copa", 0, 0.5), row("sciq", 0, 0.4, seed=7)]
    assert suite_scores(made, asked(made), other_seed) == []


def test_models_are_kept_apart_and_filters_are_named_in_brackets(tmp_path: Path) -> None:
    made = suite(task("nq_open", (0,), None, metric="exact_match", formulation="generation"))
    metric = "exact_match (remove_whitespace)"
    rows = [row("nq_open", 0, 0.1, metric), row("nq_open", 0, 0.2, metric, model="step_00000020")]
    folder = ScoresFolder(tmp_path)
    folder.table.write_text("".join(json.dumps(line) + "\n" for line in rows))
    written = write_suite_scores(folder, made, asked(made))
    assert [(score["model"], score["mean"]) for score in written] == [
        ("step_00000010", 0.1),
        ("step_00000020", 0.2),
    ]
    assert json.loads(folder.suite.read_text()) == written
    assert written[0]["centred_mean"] == 0.1
