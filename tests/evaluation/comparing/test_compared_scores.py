"""Comparisons of models whose scores are written down, against hand computations."""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pytest
from cells_by_hand import answer, cell, question
from scored_run import choice_cell, write_scores, written_cell

from pipeline.cli.compare_view import metrics_of_suite, show_comparison
from pipeline.errors import ConfigError, UserError
from pipeline.evaluation.cells import Cell, write_cell
from pipeline.evaluation.comparing.compared_scores import Comparison, compare_models
from pipeline.evaluation.comparing.scored_models import find_scored_model
from pipeline.evaluation.comparing.verdict import verdict
from pipeline.evaluation.models_to_score import folder_identity
from pipeline.store.layout import RunFolder
from pipeline.store.scores_folder import CellName, ScoresFolder


def compared(*names: object, metric: str | None = None, checkpoints: int = 8) -> Comparison:
    models = [find_scored_model(str(name)) for name in names]
    return compare_models(models, metric, checkpoints, lambda cells, task: None)


def pair(folder: Path, first: Sequence[Cell], second: Sequence[Cell]) -> tuple[Path, Path]:
    """Write two runs with the tasks `task0`, `task1`, ..., at k = 0."""
    for name, cells in (("a", first), ("b", second)):
        tasks = {(f"task{number}", 0): content for number, content in enumerate(cells)}
        write_scores(folder / name, 10, tasks)
    return folder / "a", folder / "b"


def test_a_task_by_hand(tmp_path: Path) -> None:
    """Ten questions, of which the second model gains three and loses one."""
    a, b = pair(
        tmp_path,
        [choice_cell([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])],
        [choice_cell([1, 1, 1, 0, 1, 1, 1, 0, 0, 0])],
    )
    comparison = compared(a, b)
    (row,) = comparison.tasks
    assert (comparison.baseline, row.model) == ("a@10", "b@10")
    assert (row.task, row.shots, row.metric) == ("task0", 0, "acc")
    assert (row.baseline_score, row.score) == (0.4, pytest.approx(0.6))
    assert row.difference.difference == pytest.approx(0.2)
    assert row.difference.standard_error == pytest.approx(0.2)
    assert row.difference.p_value == row.p_holm == 0.625
    (mean,) = comparison.means
    assert mean.difference.mean == pytest.approx(0.2)
    assert mean.difference.standard_error == pytest.approx(0.2)
    assert "which of b@10 and a@10 is better cannot be said" in verdict(comparison)[0].lower()


def test_questions_are_joined_by_their_hash(tmp_path: Path) -> None:
    """The second model answers questions 2 to 5, in which the first one is right three times."""
    a, b = pair(
        tmp_path, [choice_cell([0, 0, 1, 1, 1, 0])], [choice_cell([1, 1, 1, 1], first_hash=2)]
    )
    comparison = compared(a, b)
    (row,) = comparison.tasks
    assert row.difference.items == 4
    assert (row.baseline_score, row.score) == (0.75, 1.0)
    assert comparison.left_out == ["task0, k = 0: 2 questions that not all models have"]


def test_equal_questions_are_told_apart_by_their_order(tmp_path: Path) -> None:
    first = choice_cell([1, 0, 1])
    second = choice_cell([1, 1, 1])
    for content in (first, second):
        for item in content.items:
            item["hash"] = "same"
    (row,) = compared(*pair(tmp_path, [first], [second])).tasks
    assert row.difference.items == 3
    assert row.difference.difference == pytest.approx(1 / 3)


def test_what_only_some_have_is_named(tmp_path: Path) -> None:
    a, b = pair(tmp_path, [choice_cell([1] * 8), choice_cell([1] * 8)], [choice_cell([0] * 8)])
    write_scores(b, 10, {("task0", 5): choice_cell([1])})
    write_scores(a, 10, {("other", 0): choice_cell([1])}, definition="old")
    write_scores(b, 10, {("other", 0): choice_cell([1])}, definition="new")
    comparison = compared(a, b)
    assert [row.task for row in comparison.tasks] == ["task0"]
    assert sorted(comparison.left_out) == [
        "other, k = 0: its definition or its questions differ",
        "task0, k = 5: not scored for a@10",
        "task1, k = 0: not scored for b@10",
    ]
    sentences = verdict(comparison)
    assert sentences[0].startswith(
        "By the share of right answers, a@10 is better than b@10 on average (1.0000 ± 0.0000 over 1 "
    )
    assert sentences[-1].endswith("a@10 is better on task0 (k = 0).")


def test_seeds_are_averaged_question_by_question(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for seed, right in ((1234, [1, 0, 1]), (5, [0, 0, 1])):
        write_scores(a, 10, {("task", 5): choice_cell(right)}, seed=seed)
        write_scores(b, 10, {("task", 5): choice_cell([1, 1, 1])}, seed=seed)
    (row,) = compared(a, b).tasks
    assert row.baseline_score == pytest.approx(0.5)  # 1/2, 0, 1
    assert row.difference.test == "paired t"
    assert row.difference.standard_error == pytest.approx(math.sqrt((0 + 0.25 + 0.25) / 2 / 3))


def test_several_shots_of_one_task_are_one_task_in_the_mean(tmp_path: Path) -> None:
    """Twice the same answers do not make the error smaller."""
    a, b = tmp_path / "a", tmp_path / "b"
    for shots in (0, 5):
        write_scores(a, 10, {("task", shots): choice_cell([0, 1, 0, 1, 0])})
        write_scores(b, 10, {("task", shots): choice_cell([1, 1, 0, 1, 0])})
    comparison = compared(a, b)
    assert [row.shots for row in comparison.tasks] == [0, 5]
    (mean,) = comparison.means
    assert mean.difference.tasks == 1
    expected = comparison.tasks[0].difference.standard_error
    assert mean.difference.standard_error == pytest.approx(expected)


def test_equal_answers_hide_what_their_questions_could_not_show(tmp_path: Path) -> None:
    """6 of 200 answers must change for p below 0.05: 0.03, in the row and in the mean."""
    right = [1, 0] * 100
    a, b = pair(tmp_path, [choice_cell(right)], [choice_cell(right)])
    comparison = compared(a, b)
    assert comparison.tasks[0].difference.smallest_visible == 6 / 200
    assert comparison.means[0].difference.smallest_visible == 6 / 200
    assert "A difference of 0.0300 would show on these questions" in verdict(comparison)[0]

    # Those of two tasks add up as independent errors do: the root of 2 x 0.03^2, by 2.
    pair(tmp_path, [choice_cell(right)] * 2, [choice_cell(right)] * 2)
    visible = compared(a, b).means[0].difference.smallest_visible
    assert visible == pytest.approx(math.sqrt(2) * 0.03 / 2)

    # Three questions cannot change by six, and written answers have no such bound.
    few = [choice_cell([1, 0, 1])]
    pair(tmp_path / "few", few, few)
    comparison = compared(tmp_path / "few" / "a", tmp_path / "few" / "b")
    assert comparison.means[0].difference.smallest_visible is None
    assert verdict(comparison)[0].endswith("These questions are too few to show any difference.")
    written = [written_cell([0.25, 0.5])]
    pair(tmp_path / "written", written, written)
    comparison = compared(tmp_path / "written" / "a", tmp_path / "written" / "b")
    assert comparison.means[0].difference.smallest_visible == 0
    assert verdict(comparison)[0].endswith("1 task, p = 1.")


def test_holm_counts_all_tasks_of_all_models(tmp_path: Path) -> None:
    right, wrong = [1] * 8, [0] * 8
    for name, answers in (("a", wrong), ("b", right), ("c", right)):
        tasks = {("x", 0): choice_cell(answers), ("y", 0): choice_cell(wrong)}
        write_scores(tmp_path / name, 10, tasks)
    comparison = compared(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert [(row.model, row.task) for row in comparison.tasks] == [
        ("b@10", "x"), ("b@10", "y"), ("c@10", "x"), ("c@10", "y"),
    ]  # fmt: skip
    p_value = 2 / 2**8
    assert [row.difference.p_value for row in comparison.tasks] == [p_value, 1.0, p_value, 1.0]
    assert [row.p_holm for row in comparison.tasks] == [4 * p_value, 1.0, 4 * p_value, 1.0]


def test_written_answers_are_compared_by_lm_evals_metric(tmp_path: Path) -> None:
    a, b = pair(tmp_path, [written_cell([0.5, 0.25, 1.0])], [written_cell([0.5, 0.75, 1.0])])
    (row,) = compared(a, b).tasks
    assert row.metric == "f1"
    assert row.difference.difference == pytest.approx(1 / 6)


def test_lower_is_better_for_bits_per_byte(tmp_path: Path) -> None:
    a, b = pair(tmp_path, [choice_cell([0] * 9)], [choice_cell([1] * 8 + [0])])
    comparison = compared(a, b, metric="bits_per_byte")
    (row,) = comparison.tasks
    assert row.is_lower_better
    assert row.difference.difference < 0
    assert verdict(comparison)[0].startswith("By bits_per_byte, b@10 is better than a@10")
    with pytest.raises(UserError, match="task0: has no scores by f1"):
        compared(a, b, metric="f1")


def test_noise_is_that_of_the_last_checkpoints(tmp_path: Path) -> None:
    """Of 10 questions 2, 4, 2 and 4 are right; the first checkpoint is not looked at."""
    a = tmp_path / "a"
    for step, count in enumerate((9, 2, 4, 2, 4)):
        write_scores(a, step, {("task", 0): choice_cell([1] * count + [0] * (10 - count))})
    write_scores(tmp_path / "b", 4, {("task", 0): choice_cell([1] * 10)})
    comparison = compared(a, tmp_path / "b", checkpoints=4)
    of_one = 0.2 * math.sqrt(2 / 3)
    assert comparison.tasks[0].noise == pytest.approx(math.hypot(of_one, of_one))
    assert comparison.means[0].noise == pytest.approx(math.hypot(of_one, of_one))
    assert "differ by as much" not in " ".join(verdict(comparison))
    (row,) = compared(f"{a}@2", tmp_path / "b").tasks
    assert row.noise is None, "three checkpoints up to this one"


def test_right_answers_and_bits_per_byte_have_a_mean_each(tmp_path: Path) -> None:
    """Texts become better, answers do not."""

    def text(bits: Sequence[float]) -> Cell:
        answers = [[answer(-value * math.log(2) * 4, "text", 1)] for value in bits]
        items = [question(number, each, [0]) for number, each in enumerate(answers)]
        return cell(items, kind="loglikelihood_rolling")

    a, b = pair(
        tmp_path,
        [choice_cell([1, 0] * 5), text([1.0, 2.0, 3.0])],
        [choice_cell([1, 0] * 5), text([0.5, 1.5, 2.4])],
    )
    comparison = compared(a, b)
    assert [(mean.unit, mean.difference.tasks) for mean in comparison.means] == [
        ("share of right answers", 1), ("bits_per_byte", 1),
    ]  # fmt: skip
    assert comparison.means[1].difference.mean == pytest.approx(-1.6 / 3)
    sentences = verdict(comparison)
    assert sentences[0].startswith("By the share of right answers, which of b@10 and a@10")
    assert sentences[1].startswith("By bits_per_byte, b@10 is better than a@10 on average")


def test_models_are_found_by_name(tmp_path: Path) -> None:
    run = tmp_path / "a"
    folder = write_scores(run, 10, {("task", 0): choice_cell([1])})
    write_scores(run, 20, {("task", 0): choice_cell([1])})
    assert find_scored_model(str(run)).title == "a@20"
    assert find_scored_model(f"{run}@10").title == "a@10"
    assert [path.name for path in find_scored_model(f"{run}@20").run] == [
        "step_00000010", "step_00000020",
    ]  # fmt: skip
    found = find_scored_model(str(folder))
    assert list(found.cells) == [CellName("task", 0, 1234)]
    assert found.run == []
    with pytest.raises(UserError, match="step 15 has not been scored; steps with scores: 10, 20"):
        find_scored_model(f"{run}@15")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no scores of a checkpoint"):
        find_scored_model(str(tmp_path / "empty"))
    with pytest.raises(
        UserError, match=r"missing: no such file or folder\. Give the folder of a run"
    ):
        find_scored_model(str(tmp_path / "missing"))


def test_a_transformers_folder_is_found_by_what_was_scored(tmp_path: Path) -> None:
    """Its name and place may be others by now; its weights and its tokenizer are not."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    run = tmp_path / "a"
    write_scores(run, 10, {("task", 0): choice_cell([1, 0])})
    scored = choice_cell([1, 1])
    other_weights = choice_cell([0, 0])
    scored.result["provenance"].update(folder_identity(folder), title="elsewhere", tokens=None)
    scores = ScoresFolder(RunFolder(run).evaluation)
    write_cell(scores.cell("model-0123", "task", 0, 1234), scored)
    write_cell(scores.cell("model-0123", "task", 1, 1234), other_weights)

    # Beside a run, one of its steps, or another folder of cells there.
    for beside in (run, f"{run}@10", scores.cells / "step_00000010"):
        found = find_scored_model(str(folder), [str(beside), str(folder)])
        assert (found.title, found.tokens, found.run) == ("elsewhere", None, [])
        assert found.cells == {
            CellName("task", 0, 1234): scores.cell("model-0123", "task", 0, 1234)
        }

    # What cannot be found says what to do.
    with pytest.raises(UserError, match=r"no run is named beside it\. Name one in which it was"):
        find_scored_model(str(folder), [str(folder)])
    (folder / "model.safetensors").write_text("[]")
    with pytest.raises(UserError, match=r"model: has no scores in .*Add the folder to evaluation"):
        find_scored_model(str(folder), [str(run)])


def test_a_damaged_cell_is_named_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = pair(tmp_path, [choice_cell([1, 0])] * 2, [choice_cell([1, 0])] * 2)
    damaged = b / "evaluation" / "cells" / "step_00000010" / "task0" / "k0.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    found = compared(a, b)
    assert [row.task for row in found.tasks] == ["task1"]
    assert found.left_out == ["task0, k = 0: not scored for b@10"]
    assert "k0.parquet: is damaged (its checksum differs)" in capsys.readouterr().err
    damaged.with_name("k0.json").write_text("[]")
    (b / "evaluation" / "cells" / "step_00000010" / "task1" / "k0.json").write_text("{}")
    with pytest.raises(UserError, match=r"its cells are damaged\. `pipeline evaluate`"):
        compared(a, b)


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = pair(
        tmp_path,
        [choice_cell([0] * 9), choice_cell([1, 0])],
        [choice_cell([1] * 8 + [0]), choice_cell([1, 0])],
    )
    page = tmp_path / "page.html"
    options = {"metric": None, "suite": None, "last_checkpoints": 8, "page": page}
    show_comparison([str(a), str(b)], as_json=False, **options)  # pyright: ignore[reportArgumentType]
    printed = capsys.readouterr().out
    assert "+0.889 ± 0.111" in printed
    assert "0.0078" in printed
    assert (
        "b@10 is better than a@10 on average (0.4444 ± 0.0556 over 2 tasks, p < 0.0001)" in printed
    )
    show_comparison([str(a), str(b)], as_json=True, **options)  # pyright: ignore[reportArgumentType]
    answer = json.loads(capsys.readouterr().out)
    assert answer["tasks"][0]["difference"]["p_value"] == 2 / 2**8
    assert answer["verdict"][0] in printed
    html = page.read_text()
    assert escape(answer["verdict"][0]) in html
    assert "<svg" in html
    assert "http" not in html
    with pytest.raises(UserError, match="two models or more"):
        show_comparison([str(a)], as_json=False, **options)  # pyright: ignore[reportArgumentType]


def test_runs_of_one_name_are_called_as_the_user_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = []
    for place in ("x", "y"):
        write_scores(tmp_path / place / "same", 10, {("task", 0): choice_cell([1, 0])})
        names.append(str(tmp_path / place / "same"))
    show_comparison(names, metric=None, suite=None, last_checkpoints=8, as_json=True, page=None)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["baseline"], answer["models"]) == (names[0], [names[1]])


def test_a_suite_names_its_tasks_and_their_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The suite `pythia` scores piqa and sciq by `acc`; `other` is none of its tasks."""
    for name in ("a", "b"):
        tasks = {(task, 0): choice_cell([1, 0]) for task in ("piqa", "sciq", "other")}
        write_scores(tmp_path / name, 10, tasks)
    names = [str(tmp_path / name) for name in ("a", "b")]
    show_comparison(names, metric=None, suite="pythia", last_checkpoints=0, as_json=True, page=None)
    answer = json.loads(capsys.readouterr().out)
    published = metrics_of_suite("pythia")
    assert [(row["task"], row["metric"]) for row in answer["tasks"]] == [
        (task, published[task]) for task in ("piqa", "sciq")
    ]
    assert metrics_of_suite("quickstart")["pattern_copy"] == "acc_mutual_info"
    with pytest.raises(UserError, match="does not go with --metric"):
        show_comparison(
            names, metric="acc", suite="pythia", last_checkpoints=0, as_json=True, page=None
        )
    with pytest.raises(ConfigError, match=r"evaluation\.suite = 'nosuch'"):
        show_comparison(
            names, metric=None, suite="nosuch", last_checkpoints=0, as_json=True, page=None
        )
