"""A study file with its runs: what is trained alone, what is not counted."""

import shutil
from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.cli.study.opened_study import open_study, table_of_points
from pipeline.errors import ConfigError, DataError
from pipeline.planning.study.scaling import ScalingStudy
from pipeline.store.files import write_json
from pipeline.store.layout import RunFolder, manifest_path

pytestmark = pytest.mark.usefixtures("forked_checks")

STUDY = """\
kind: scaling
base: run.yaml
folder: made
sizes: {widths: [16], width_per_layer: 16, head_dim: 8}
budgets: {tokens: [12800, 51200]}
rules: {cooldown: branches}
"""
MORE = ["budgets.tokens=[12800, 25600, 51200]"]


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {})


@pytest.mark.ranks
def test_a_budget_that_is_added_to_a_finished_study_is_trained_alone(study_file: Path) -> None:
    before = open_study(study_file, [])
    trunk, branch = before.runs
    folder = before.folder
    touch(RunFolder(folder.run_dir(trunk.name)).train_manifest)
    touch(manifest_path(RunFolder(folder.run_dir(trunk.name)).checkpoint(branch.first_step - 1)))

    # The old branch begins at its checkpoint, the new one at its own beginning.
    after = {run.budget.label: run for run in open_study(study_file, MORE).runs}
    assert after["d51200"].name == trunk.name
    assert after["d12800"].name == branch.name
    assert after["d12800"].trunk == trunk.name
    added = after["d25600"]
    assert (added.trunk, added.first_step, added.config.train.init_from) == (None, 1, None)
    assert added.own_flops == added.flops

    # In a study that has not begun it is a branch, of the same name.
    shutil.rmtree(folder.path)
    branches = {run.budget.label: run for run in open_study(study_file, MORE).runs}
    assert branches["d25600"].trunk == trunk.name
    assert branches["d25600"].name == added.name


@pytest.mark.ranks
def test_finished_runs_of_other_settings_are_named(study_file: Path) -> None:
    opened = open_study(study_file, [])
    touch(RunFolder(opened.folder.run_dir("w16-d1-s1-00000000")).train_manifest)
    touch(opened.folder.run_file("w16-d2-s1-00000000"))
    touch(RunFolder(opened.folder.run_dir(opened.runs[0].name)).train_manifest)
    assert opened.other_runs() == ["w16-d1-s1-00000000"]
    # A report says so too: it has none to report on.
    named = (
        "no run has begun (1 finished run in .* of other settings or data, not counted: w16-d1-s1-"
    )
    with pytest.raises(DataError, match=named.replace("(", r"\(")):
        table_of_points(study_file)


@pytest.mark.ranks
def test_budgets_that_are_one_training_and_branches_of_a_step_are_refused(study_file: Path) -> None:
    with pytest.raises(ConfigError, match="d12800 and d12900 are both 50 steps of w16; remove one"):
        open_study(study_file, ["budgets.tokens=[12800, 12900, 51200]"])
    with pytest.raises(ConfigError, match="d256 is a single step of w16, of which none is left"):
        open_study(study_file, ["budgets.tokens=[256, 51200]"])
    # The last step is never a branch's first.
    runs = open_study(study_file, ["budgets.tokens=[512, 51200]", "rules.decay=0.01"]).runs
    assert [(run.steps, run.first_step) for run in runs] == [(200, 1), (2, 2)]


@pytest.mark.ranks
def test_a_table_has_no_settings_and_a_study_needs_runs(study_file: Path) -> None:
    table = study_file.with_name("points.csv")
    assert table_of_points(table) == table
    with pytest.raises(ConfigError, match="folder=x: a table has no settings; leave it out"):
        table_of_points(table, ["folder=x"])
    with pytest.raises(DataError, match="no run has begun; train them with `pipeline study run"):
        table_of_points(study_file)


def test_a_base_that_is_not_there_is_named(study_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"base = .*absent\.yaml: there is no such file"):
        open_study(study_file, ["base=absent.yaml"])


def test_a_kind_refuses_what_it_cannot_use(
    study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScalingStudy, "axes", ("variants",))
    monkeypatch.setattr(ScalingStudy, "is_measured_alone", True)
    with pytest.raises(ConfigError) as error:
        open_study(study_file, ["executor.jobs=2", "axes.variants={loss: {a: {}}}"])
    assert "axes.variants.loss: the table of runs has a column of that name" in str(error.value)
    assert "executor.jobs = 2: a study of kind scaling measures speed" in str(error.value)
