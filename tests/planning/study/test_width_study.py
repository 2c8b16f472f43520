"""The kind `width`: what its grid may lack, how often it reads its rows, and what its runs have measured."""

import json

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_file import load
from pipeline.config.study_file import StudyFile, read_study
from pipeline.errors import ConfigError
from pipeline.planning.double_descent.width_curves import (
    FitAt,
    over_epochs,
    over_width,
    series_of,
    width_runs,
)
from pipeline.planning.study.grid import runs_of_study
from pipeline.planning.study.points import points_of_study
from pipeline.planning.study.study_epochs import expected_epochs
from pipeline.planning.study.study_kind import study_kind
from pipeline.planning.study.study_run import StudyRun
from pipeline.store.events import ROLLBACK, write_event
from pipeline.store.files import write_json
from pipeline.store.layout import RunFolder
from pipeline.store.studies.study_folder import StudyFolder

pytestmark = [pytest.mark.ranks, pytest.mark.usefixtures("forked_checks")]

STUDY = """\
kind: width
base: run.yaml
folder: made
sizes: {widths: [8, 16, 24, 32, 48], layers: 2, head_dim: 4}
budgets: {tokens: [12800]}
seeds: [1, 2]
axes:
  variants:
    noise:
      clean: {}
      noisy: {data: {small_sample: {label_noise: 0.2}}}
settings: {data: {small_sample: {train_sequences: 2}}}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFile:
    """Return a study of five widths, two seeds and two label noises."""
    folder = tmp_path_factory.mktemp("width")
    (folder / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    path = folder / "study.yaml"
    path.write_text(STUDY)
    return read_study(path)


@pytest.fixture(scope="module")
def runs(study: StudyFile) -> list[StudyRun]:
    return runs_of_study(study, load(study.base))


def test_label_noise_is_an_axis(runs: list[StudyRun]) -> None:
    samples = {run.place.label: run.config.data.small_sample for run in runs}
    assert {label: sample.label_noise for label, sample in samples.items() if sample} == {
        "clean": 0.0,
        "noisy": 0.2,
    }
    assert len(runs) == len({run.name for run in runs}) == 20


def test_all_widths_have_the_layers_that_are_stated(runs: list[StudyRun]) -> None:
    settings = [run.config.model.config for run in runs]
    assert {config["hidden_size"] for config in settings} == {8, 16, 24, 32, 48}
    assert {config["num_hidden_layers"] for config in settings} == {2}


def test_a_grid_that_can_answer(study: StudyFile, runs: list[StudyRun]) -> None:
    epochs = {run.name: 100.0 for run in runs}
    assert study_kind(study).grid_problems(study, runs, epochs) == []


def test_what_a_grid_lacks_is_named_with_the_remedy(study: StudyFile, runs: list[StudyRun]) -> None:
    data = runs[0].config.data.model_copy(update={"small_sample": None})
    config = runs[0].config.model_copy(update={"data": data})
    lacking = [StudyRun("w8", "w8", runs[0].budget, runs[0].place, 1, config, runs[0].facts)]
    one_seed = study.model_copy(update={"seeds": (1,)})
    problems = study_kind(study).grid_problems(one_seed, lacking, {"w8": 2.0})
    assert [problem.partition(":")[0] for problem in problems] == [
        "settings.data.small_sample",
        "sizes",
        "seeds",
        "budgets",
    ]
    assert "set {train_sequences: 64, label_noise: 0.2}" in problems[0]
    assert "1, and a curve that may fall, rise and fall again needs at least 5" in problems[1]
    assert "1, which shows no band; add some" in problems[2]
    assert "a run reads its sample 2 times" in problems[3]


def test_epochs_are_those_of_the_sample(runs: list[StudyRun]) -> None:
    """Of 12,800 tokens two thirds are prose's, whose sample has 2 rows of 32 tokens: 133 times."""
    sources = {name: {"train": {"tokens": 5000}} for name in ("prose", "sums")}
    manifest = {"output": "x", "files": {}, "counts": {"sources": sources}}
    tokens = runs[0].config.paths.data_dir / "tokens" / "manifest.json"
    write_json(tokens, manifest)
    epochs = expected_epochs(runs[:1])
    tokens.unlink()
    assert epochs[runs[0].name] == pytest.approx(12_800 * 2 / 3 / 64)


def test_a_question_is_checked(study: StudyFile) -> None:
    path = study.base.with_name("study.yaml")
    assert read_study(path, ["question.fitted_error=0.1"]).question.fitted_error == 0.1
    with pytest.raises(ConfigError, match=r"question\.fitted_error"):
        read_study(path, ["question.fitted_error=1"])


def record_fit(run: StudyRun, error: float | None) -> None:
    """Leave what a finished run would: fits after half of its steps and at its end."""
    folder = RunFolder(run.config.paths.run_dir)
    folder.metrics.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for step in (1, run.steps // 2, run.steps):
        record = {"step": step, "tokens": run.config.step_plan.tokens_after(step), "loss": 1.0}
        if step > 1:
            record |= {"sample_loss": error, "sample_error": error}
            record |= {"validation_loss": 5.0, "validation_error": 0.5}
        lines.append(json.dumps(record) + "\n")
    folder.metrics.write_text("".join(lines))
    write_json(folder.data_outlook, {"packing": "", "sources": {"prose": {"epochs": 100.0}}})


def test_fits_are_read_from_finished_runs(study: StudyFile, runs: list[StudyRun]) -> None:
    """Width 8 has both seeds, width 16 one that is not finite, the others have not begun."""
    noisy = [run for run in runs if run.place.label == "noisy"]
    by_place = {(run.size, run.seed): run for run in noisy}
    record_fit(by_place["w8", 1], 0.25)
    record_fit(by_place["w8", 2], 0.75)
    record_fit(by_place["w16", 1], 0.5)
    record_fit(by_place["w16", 2], None)
    found = width_runs(runs, points_of_study(StudyFolder(study.folder), runs))
    assert [(run.width, run.seed) for run in found] == [(8, 1), (8, 2), (16, 1)]
    assert series_of(found) == ["noisy"]
    assert found[0].fits == [
        FitAt(50.0, 0.25, 0.25, 5.0, 0.5),
        FitAt(100.0, 0.25, 0.25, 5.0, 0.5),
    ]
    assert found[0].targets == 128
    assert found[0].end.loss_gap == 4.75
    assert over_width(found, "noisy", lambda fit: fit.sample_error) == {
        8: {1: 0.25, 2: 0.75},
        16: {1: 0.5},
    }
    assert over_epochs(found, "noisy", 8, lambda fit: fit.sample_loss) == {
        50.0: {1: 0.25, 2: 0.75},
        100.0: {1: 0.25, 2: 0.75},
    }


def test_runs_that_diverged_are_told_from_unfinished_ones(
    study: StudyFile, runs: list[StudyRun]
) -> None:
    """One ended with a loss that is not finite, one gave up after a rollback, one is on its way."""
    clean = [run for run in runs if run.place.label == "clean"][:3]
    ended, gave_up, on_its_way = clean
    for run, last in ((ended, ended.steps), (gave_up, 5), (on_its_way, 5)):
        folder = RunFolder(run.config.paths.run_dir)
        folder.path.mkdir(parents=True)
        record = {"step": last, "tokens": 1, "loss": 1.0, "validation_loss": None}
        folder.metrics.write_text(f"{json.dumps(record)}\n")
    write_event(gave_up.config.paths.run_dir, ROLLBACK, samples=[0, 8])
    points = points_of_study(StudyFolder(study.folder), clean)
    assert [(point.left_out, point.has_diverged) for point in points] == [
        ("its validation loss is not finite", True),
        ("rolled back 1 time", True),
        (f"at step 5 of {on_its_way.steps}", False),
    ]
