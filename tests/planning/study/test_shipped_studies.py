"""The study files in `jobs/`: each loads, and its grid can answer its question."""

import shutil
from pathlib import Path

import pytest

from pipeline.config.run_file import load
from pipeline.config.study_file import read_study
from pipeline.planning.study.grid import runs_of_study
from pipeline.planning.study.study_kind import study_kind
from pipeline.planning.study.study_run import StudyRun

pytestmark = pytest.mark.usefixtures("forked_checks")

JOBS = Path(__file__).parents[3] / "jobs"
STUDIES = sorted(path.name for path in JOBS.glob("study-*.yaml"))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the run files and study files: figures of models are kept beside it."""
    folder = tmp_path_factory.mktemp("shipped") / "jobs"
    folder.mkdir()
    for path in JOBS.glob("*.yaml"):
        shutil.copy(path, folder)
    shutil.copytree(JOBS / "templates", folder / "templates")
    return folder


def runs_of(path: Path, *overrides: str) -> list[StudyRun]:
    study = read_study(path, overrides)
    return runs_of_study(study, load(study.base))


@pytest.mark.ranks
@pytest.mark.parametrize("name", STUDIES)
def test_a_shipped_grid_can_answer_its_question(jobs: Path, name: str) -> None:
    study = read_study(jobs / name)
    kind = study_kind(study)
    runs = runs_of_study(study, load(study.base), kind.places(study))
    assert kind.grid_problems(study, runs, {}) == []


@pytest.mark.ranks
def test_what_a_grid_lacks_is_named_with_the_remedy(jobs: Path) -> None:
    path = jobs / "study-scaling.yaml"
    study = read_study(path)
    kind = study_kind(study)
    problems = kind.grid_problems(study, runs_of(path, "sizes.widths=[16, 24, 32]"), {})
    assert len(problems) == 4, "one for each budget"
    assert "budget c1e+11: 3 sizes have at least 200 steps and at most 4 epochs" in problems[0]
    assert problems[0].endswith("and 4 are needed; add sizes")

    # Two budgets, the smaller one of too few steps.
    few = read_study(path, ["budgets.flops=[1e10, 1e12]"])
    problems = kind.grid_problems(few, runs_of(path, "budgets.flops=[1e10, 1e12]"), {})
    assert problems[0] == "budgets: 2, and a law needs at least 3; add some"
    assert "make the budget larger, rules.batch smaller, or the sizes smaller" in problems[1]

    # A budget whose best size is expected to be larger than all.
    far = ("budgets.flops=[1e11, 1e12, 1e16]", "rules.cooldown=each")
    problems = kind.grid_problems(read_study(path, far), runs_of(path, *far), {})
    assert len(problems) == 1
    assert "the lowest loss is expected at about" in problems[0]
    assert problems[0].endswith("add larger sizes")

    # Text that is read too often.
    runs = runs_of(path)
    problems = kind.grid_problems(study, runs, {run.name: 5.0 for run in runs})
    assert "0 sizes have at least 200 steps and at most 4 epochs" in problems[0]


@pytest.mark.ranks
def test_a_curve_over_sizes_needs_three(jobs: Path) -> None:
    study = read_study(jobs / "study-few-shot.yaml")
    runs = runs_of(jobs / "study-few-shot.yaml", "sizes.widths=[32, 64]")
    assert study_kind(study).grid_problems(study, runs, {}) == [
        "sizes: 2, and a curve over sizes needs at least 3; add some"
    ]
