"""The axes of a study: its runs at each combination, by hand."""

from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_file import load
from pipeline.config.study_file import Axes, StudyFile, read_study
from pipeline.errors import ConfigError
from pipeline.planning.study.axes import Place, combinations_of_axes, micro_batch_of
from pipeline.planning.study.grid import runs_of_study
from pipeline.planning.study.run_names import record_tokens
from pipeline.planning.study.study_run import StudyRun
from pipeline.store.studies.study_folder import StudyFolder

pytestmark = pytest.mark.usefixtures("forked_checks")

STUDY = """\
kind: scaling
base: run.yaml
folder: made
budgets: {tokens: [12800]}
"""
MUON = {"optimizer": {"kind": "muon", "peak_learning_rate": 0.02, "muon_momentum": 0.9}}


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study file beside its base."""
    folder = tmp_path_factory.mktemp("axes")
    (folder / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    path = folder / "study.yaml"
    path.write_text(STUDY)
    return path


def runs_with(study_file: Path, axes: Axes, *overrides: str) -> list[StudyRun]:
    """Return the runs of the study with axes, as a kind that reads all of them has them."""
    study: StudyFile = read_study(study_file, overrides).model_copy(update={"axes": axes})
    return runs_of_study(study, load(study.base))


def test_each_combination_is_a_place() -> None:
    assert combinations_of_axes(Axes()) == [Place()]
    axes = Axes(
        batch_tokens=(256, 512), warmup=(0, 0.1), variants={"optimizer": {"a": {}, "b": {}}}
    )
    places = combinations_of_axes(axes)
    assert len(places) == 8
    assert places[0] == Place({"batch_tokens": 256, "warmup": 0, "optimizer": "a"})
    assert [place.label for place in places[:4]] == [
        "b256-warm0-a",
        "b256-warm0-b",
        "b256-warm0.1-a",
        "b256-warm0.1-b",
    ]
    assert Place().label == ""


@pytest.mark.ranks
def test_values_reach_the_run_files(study_file: Path) -> None:
    base = load(study_file.parent / "run.yaml")
    axes = Axes(
        batch_tokens=(128, 512),
        learning_rate_factors=(2,),
        learning_rate_scaling=("linear",),
        warmup=(0.25,),
        variants={"optimizer": {"own": {}, "muon": MUON}},
    )
    own, muon, large, _ = runs_with(study_file, axes, "rules.reference_batch_tokens=256")
    assert own.config.batch.global_batch_tokens == 128
    assert own.steps == 100
    assert own.config.schedule.warmup_tokens == 3200
    assert own.config.learning_rate_factor == 0.5, "linear, from 256 tokens to 128"
    rate = base.optimizer.peak_learning_rate
    assert own.config.optimizer.peak_learning_rate == 2 * rate
    assert muon.config.optimizer.kind == "muon"
    assert muon.config.optimizer.peak_learning_rate == 2 * 0.02
    assert (large.steps, large.config.learning_rate_factor) == (25, 2.0)
    assert own.place.values["optimizer"] == "own"
    assert own.name.startswith("base-d12800-b128-x2-linear-warm0.25-own-s1-")
    assert own.config.model == base.model


@pytest.mark.ranks
def test_the_learning_rate_is_that_of_the_bases_batch(study_file: Path) -> None:
    base = load(study_file.parent / "run.yaml")
    own_batch = base.batch.global_batch_tokens
    axes = Axes(batch_tokens=(2 * own_batch,), learning_rate_scaling=("linear",))
    (run,) = runs_with(study_file, axes)
    assert run.config.learning_rate_factor == 2


@pytest.mark.ranks
def test_the_axis_decides_the_ranks(study_file: Path) -> None:
    runs = runs_with(study_file, Axes(ranks=(1, 2, 4), batch_tokens=(256,)))
    assert [run.config.launch.ranks for run in runs] == [1, 2, 4]
    assert [run.place.ranks for run in runs] == [1, 2, 4]
    for run in runs:
        per_rank = run.config.global_batch_sequences // run.config.launch.ranks
        assert per_rank % run.config.batch.micro_batch_sequences == 0
    assert len({run.name for run in runs}) == 3, "the same losses, but other runs"
    with pytest.raises(ConfigError, match="3 ranks do not divide a batch of 8 sequences; give"):
        runs_with(study_file, Axes(ranks=(3,), batch_tokens=(256,)))


@pytest.mark.ranks
def test_a_variant_whose_settings_change_is_another_run(study_file: Path) -> None:
    def name(template: str) -> str:
        variants = {"zero": {"one": {"deepspeed": template}}}
        (run,) = runs_with(study_file, Axes(variants=variants))
        return run.name

    first = name(str(TEMPLATES / "zero1.json"))
    second = name(str(TEMPLATES / "zero2.json"))
    assert first != second


@pytest.mark.ranks
def test_names_stay_when_the_data_are_gone(study_file: Path) -> None:
    (before,) = runs_with(study_file, Axes())
    data_dir = before.config.paths.data_dir
    tokens = data_dir / "tokens" / "manifest.json"
    tokens.parent.mkdir(parents=True)
    tokens.write_text('{"fingerprint": "f", "output": "one"}')
    (with_tokens,) = runs_with(study_file, Axes())
    assert with_tokens.name != before.name
    folder = StudyFolder(study_file.parent / "made")
    record_tokens(folder, {data_dir})
    tokens.unlink()
    (without,) = runs_with(study_file, Axes())
    assert without.name == with_tokens.name
    # An archive that was moved together with its run file has another data folder.
    (moved,) = runs_with(study_file, Axes(), "settings.paths.data_dir=/gone")
    assert moved.name == with_tokens.name
    record_tokens(folder, {data_dir})
    assert runs_with(study_file, Axes())[0].name == with_tokens.name, "nothing is forgotten"


@pytest.mark.parametrize(
    ("sequences", "ranks", "most", "fewest", "micro"),
    [(12, 1, 5, 1, 4), (12, 1, 12, 2, 6), (12, 2, 12, 2, 6), (12, 2, 12, 3, 3), (1, 1, 8, 2, 1)],
)
def test_micro_batches_divide_the_batch_of_a_rank(
    sequences: int, ranks: int, most: int, fewest: int, micro: int
) -> None:
    assert micro_batch_of(sequences, ranks, most, fewest) == micro
