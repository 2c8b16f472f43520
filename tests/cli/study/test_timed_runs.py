"""What a time-to study reads of run folders: losses with what they took, scores, other runs."""

import json
from pathlib import Path

import pytest
from made_up_study import score_row
from runs_to_compare import begin_run, write_lines

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.cli.study.timed_runs import read_timed_run, timed_runs
from pipeline.config.study_file import read_study
from pipeline.errors import ConfigError, DataError
from pipeline.planning.study.study_kind import study_kind
from pipeline.planning.time_to.timed_run import Reading
from pipeline.store.recorded_run import recorded_config

STUDY = """\
kind: time-to
base: run.yaml
folder: made
budgets: {tokens: [320]}
rules: {validations: 10}
question: {losses: [3.5]}
"""


@pytest.fixture
def study_file(run_file: Path) -> Path:
    path = run_file.with_name("study.yaml")
    path.write_text(STUDY)
    return path


def opened_with(study_file: Path, *runs: Path) -> OpenedStudy:
    """Return a study of no runs of its own."""
    named = ", ".join(str(path) for path in runs)
    study = read_study(study_file, [f"question.runs=[{named}]"])
    return OpenedStudy(study_file, study, None, [])  # pyright: ignore[reportArgumentType]


def test_a_run_is_read_with_its_losses_scores_and_what_they_took(tmp_path: Path) -> None:
    path = begin_run(tmp_path / "a")
    (path / "evaluation").mkdir()
    rows = [
        *(score_row(2, "acc", 0.3, task="copa"), score_row(4, "acc", 0.5, task="copa")),
        score_row(4, "acc", 0.9, task="copa", shots=5),
    ]
    write_lines(path / "evaluation" / "scores.jsonl", rows)
    run = read_timed_run(recorded_config(path, []), "a", "a", "")
    # Two ranks; steps end 12, 14, 16, 18 s after the launch.
    assert run.losses == [
        Reading(3, 96, 3.75, 16, 32, None),
        Reading(4, 128, 3.25, 18, 36, None),
    ]
    assert run.scores == {
        "copa": [Reading(2, 64, 0.3, 14, 28, None), Reading(4, 128, 0.5, 18, 36, None)]
    }
    assert (run.ranks, run.batch_tokens, run.tokens_per_second) == (2, 32, 16)


def test_other_runs_count_beside_those_of_the_study(tmp_path: Path, study_file: Path) -> None:
    first = begin_run(tmp_path / "a")
    second = begin_run(tmp_path / "b")
    (a, b) = timed_runs(opened_with(study_file, first, second), [])
    assert (a.name, b.name, a.left_out) == ("a", "b", "")


def test_a_branch_has_no_time_from_the_beginning(tmp_path: Path, study_file: Path) -> None:
    path = begin_run(tmp_path / "a")
    with (path / "events.jsonl").open("a") as file:
        file.write(json.dumps({"time": "", "event": "branch", "lineage": []}) + "\n")
    (run,) = timed_runs(opened_with(study_file, path), [])
    assert run.left_out.startswith("began from another run's checkpoint")


def test_what_is_no_other_run_is_refused(tmp_path: Path, study_file: Path) -> None:
    path = begin_run(tmp_path / "a")
    (tmp_path / "same").symlink_to(path)
    with pytest.raises(DataError, match="is named twice, or is a run of the study; remove it"):
        timed_runs(opened_with(study_file, path, tmp_path / "same"), [])
    with pytest.raises(DataError, match="no such file or folder"):
        timed_runs(opened_with(study_file, tmp_path / "missing"), [])
    (path / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match=r"has made no step yet; leave it out of question\.runs"):
        timed_runs(opened_with(study_file, path), [])


def test_a_question_without_a_target_is_refused(study_file: Path) -> None:
    with pytest.raises(ConfigError, match="needs a target: give losses, or scores"):
        read_study(study_file, ["question.losses=[]"])
    with pytest.raises(ConfigError, match=r"question\.losses"):
        read_study(study_file, ["question.losses=[0]"])


def test_scores_ask_for_an_evaluation_of_the_runs(study_file: Path) -> None:
    study = read_study(study_file)
    assert study_kind(study).stages_of(study) == ("train",)
    study = read_study(study_file, ["question.scores={copa: 0.6}"])
    assert study_kind(study).stages_of(study) == ("train", "export", "evaluate")


def test_what_leaves_the_question_open_is_named(tmp_path: Path, study_file: Path) -> None:
    study = read_study(study_file, ["rules.validations=5"])
    problems = study_kind(study).grid_problems(study, [], {})
    assert len(problems) == 2
    assert problems[0].startswith("axes: 0 run, and times are compared between at least 2")
    assert problems[1].startswith("rules.validations = 5: a target is told to one interval")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    other = read_study(study_file, [f"question.runs=[{tmp_path / 'a'}, {tmp_path / 'b'}]"])
    assert study_kind(other).grid_problems(other, [], {}) == []
