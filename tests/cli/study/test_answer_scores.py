"""A run's scores in one task: which checkpoint, which number of examples, which metric."""

from collections.abc import Sequence

from made_up_study import score_row

from pipeline.cli.study.answer_scores import RunInTask, run_in_task, tasks_of_runs
from pipeline.planning.laws.two_step import TaskPoint
from pipeline.reporting.study.few_shot_tables import ScoredRun
from pipeline.store.counts import ModelScore


def row(
    step: int, metric: str, value: float, *, shots: int = 0, task: str = "arc", seed: int = 1234
) -> ModelScore:
    scored = score_row(step, metric, value, task=task, shots=shots)
    scored["seed"] = seed
    scored["tokens"] = 100 * step
    return scored


def in_arc(rows: Sequence[ModelScore]) -> RunInTask:
    return run_in_task(ScoredRun("small", 1000, 6000, 3.6e7, rows), "arc", 60)


def test_the_last_checkpoint_counts_and_the_last_five_tell_the_noise() -> None:
    rows = [row(step, "acc", step / 100) for step in (60, 10, 20, 30, 40, 50)]
    rows += [row(60, "bits_per_byte", 1.5), row(50, "bits_per_byte", 2.5)]
    found = in_arc(rows)
    assert found.metric == "acc"
    assert found.by_shots == {
        0: TaskPoint(
            "small", 1.5, 0.6, tuple((100.0 * step, step / 100) for step in range(20, 70, 10))
        )
    }


def test_numbers_of_examples_that_have_both_scores_are_kept_apart() -> None:
    rows = [row(60, "acc", 0.5), row(60, "bits_per_byte", 1.5)]
    rows += [row(60, "acc", 0.75, shots=5), row(60, "bits_per_byte", 1.25, shots=5)]
    rows += [row(60, "acc", 0.875, shots=10)]
    assert in_arc(rows).by_shots == {
        0: TaskPoint("small", 1.5, 0.5, ((6000, 0.5),)),
        5: TaskPoint("small", 1.25, 0.75, ((6000, 0.75),)),
    }


def test_seeds_of_the_examples_are_averaged() -> None:
    rows = [row(60, "acc", value, seed=seed) for seed, value in enumerate((0.25, 0.75))]
    rows += [row(60, "bits_per_byte", value, seed=seed) for seed, value in enumerate((1.0, 2.0))]
    assert in_arc(rows).by_shots == {0: TaskPoint("small", 1.5, 0.5, ((6000, 0.5),))}


def test_a_run_whose_last_checkpoint_is_not_scored_has_no_scores() -> None:
    found = in_arc([row(50, "acc", 0.5), row(50, "bits_per_byte", 1.5)])
    assert found.accuracy is not None
    assert found.by_shots == {}


def test_checkpoints_of_other_runs_are_not_the_last_one() -> None:
    other: ModelScore = {**row(60, "acc", 1.0), "model": "other@60"}
    rows = [other, row(60, "acc", 0.5), row(60, "bits_per_byte", 1.5)]
    assert in_arc(rows).by_shots[0].last_accuracies == ((6000, 0.5),)


def test_what_a_task_lacks_is_none() -> None:
    assert in_arc([row(60, "acc", 0.5)]).answer_bits is None
    assert in_arc([row(60, "bits_per_byte", 0.5)]).accuracy is None
    assert in_arc([row(60, "perplexity", 9.0)]).metric == ""
    assert in_arc([row(60, "acc", 0.5, task="boolq")]).accuracy is None


def test_tasks_with_any_score_are_listed_once() -> None:
    rows = [row(60, "acc", 0.5, task="boolq"), row(60, "acc", 0.5), row(50, "acc", 0.5)]
    assert tasks_of_runs([ScoredRun("a", 1, 1, 1.0, rows)] * 2) == ["boolq", "arc"]
