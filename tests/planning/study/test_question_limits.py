"""What a study's question may not ask, refused before anything is trained."""

from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_file import load
from pipeline.config.study_file import read_study
from pipeline.errors import ConfigError
from pipeline.planning.study.grid import runs_of_study
from pipeline.planning.study.study_kind import study_kind

pytestmark = pytest.mark.usefixtures("forked_checks")

THROUGHPUT = """\
kind: throughput
base: run.yaml
folder: made
budgets: {tokens: [25600]}
axes: {ranks: [1, 2]}
question: {batch_tokens: 256}
settings: {train: {communication_steps: 2}}
"""
TIME_TO = """\
kind: time-to
base: run.yaml
folder: made
budgets: {tokens: [25600]}
axes: {batch_tokens: [256, 512]}
rules: {validations: 20}
question: {losses: [3.0]}
"""


def problems_of(folder: Path, text: str, *overrides: str) -> list[str]:
    """Return what a study's grid leaves open."""
    (folder / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    path = folder / "study.yaml"
    path.write_text(text)
    study = read_study(path, overrides)
    kind = study_kind(study)
    return kind.grid_problems(study, runs_of_study(study, load(study.base), kind.places(study)), {})


@pytest.mark.parametrize(
    ("text", "override", "name"),
    [
        (THROUGHPUT, "question.scaling=[weak, weak]", "question.scaling"),
        (THROUGHPUT, "question.predict=[4, 4]", "question.predict"),
        (TIME_TO, "question.losses=[3.0, 3.0]", "question.losses"),
    ],
)
def test_nothing_is_asked_twice(tmp_path: Path, text: str, override: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: holds a value twice"):
        problems_of(tmp_path, text, override)


@pytest.mark.ranks  # a process of its own looks at the model
def test_a_prediction_too_far_is_known_before_training(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, THROUGHPUT, "question.predict=[8, 9]")
    assert problem.startswith("question.predict: 9 devices are 4.5 times the largest measured")


@pytest.mark.ranks  # a process of its own looks at the model
def test_other_runs_have_to_be_there(tmp_path: Path) -> None:
    assert problems_of(tmp_path, TIME_TO) == []
    (problem,) = problems_of(tmp_path, TIME_TO, f"question.runs=[{tmp_path}/nowhere]")
    assert problem == f"question.runs: {tmp_path / 'nowhere'}: there is no such file or folder"


@pytest.mark.ranks  # a process of its own looks at the model
def test_scores_need_a_task_that_is_scored_and_several_checkpoints(tmp_path: Path) -> None:
    tasks = "settings.evaluation.tasks=[patterns]"
    unknown, single = problems_of(tmp_path, TIME_TO, "question.scores={piqa: 0.6}", tasks)
    assert unknown.startswith(
        "question.scores: piqa: the runs are not scored on it; their tasks are "
    )
    assert single.startswith("question.scores: the runs keep their last checkpoint alone")
    # What the study says of its checkpoints holds, and text is always scored.
    kept = "settings.checkpoint.keep_every_steps=10"
    for task in ("patterns", "heldout_bpb_prose"):
        assert problems_of(tmp_path, TIME_TO, f"question.scores={{{task}: 0.6}}", tasks, kept) == []
