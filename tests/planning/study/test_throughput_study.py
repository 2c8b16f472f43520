"""The study `throughput`: which runs it has, and what its grid may lack."""

from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_file import load
from pipeline.config.study_file import StudyFile, read_study
from pipeline.errors import ConfigError
from pipeline.planning.study.axes import Place
from pipeline.planning.study.grid import runs_of_study
from pipeline.planning.study.study_kind import study_kind
from pipeline.planning.study.throughput import variant_of

pytestmark = pytest.mark.usefixtures("forked_checks")

STUDY = """\
kind: throughput
base: run.yaml
folder: made
budgets: {tokens: [61440]}
axes:
  ranks: [4, 1, 2]
  variants:
    template: {zero1: {}, zero2: {deepspeed: zero2}}
    recompute: {none: {}, all: {train: {activation_checkpointing: true}}}
question: {batch_tokens: 256}
settings: {train: {communication_steps: 2}}
"""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study file beside its base."""
    folder = tmp_path_factory.mktemp("throughput")
    (folder / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    path = folder / "study.yaml"
    path.write_text(STUDY)
    return path


def places_of(study: StudyFile) -> list[Place]:
    return study_kind(study).places(study)


def test_weak_and_strong_share_the_reference_and_variants_are_tried_once(study_file: Path) -> None:
    study = read_study(study_file)
    found = [
        (
            place.ranks,
            place.values["scaling"],
            place.values["batch_tokens"],
            variant_of(study, place),
        )
        for place in places_of(study)
    ]
    assert found == [
        (1, "reference", 256, ""),
        (2, "weak", 512, ""),
        (4, "weak", 1024, ""),
        (2, "strong", 256, ""),
        (4, "strong", 256, ""),
        (4, "weak", 1024, "zero2"),
        (4, "weak", 1024, "all"),
    ]


def test_variants_may_be_tried_on_fewer_ranks(study_file: Path) -> None:
    study = read_study(study_file, ["question.variant_ranks=1", "question.scaling=[strong]"])
    others = [place for place in places_of(study) if variant_of(study, place)]
    assert [(place.ranks, place.values["scaling"]) for place in others] == [(1, "reference")] * 2
    with pytest.raises(ConfigError, match=r"question\.variant_ranks = 3: is none of .* 1, 2, 4"):
        places_of(read_study(study_file, ["question.variant_ranks=3"]))


def test_a_study_without_ranks_or_with_other_axes_is_refused(study_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"axes\.ranks: .* needs numbers of ranks"):
        places_of(read_study(study_file, ["axes.ranks=[]"]))
    with pytest.raises(ConfigError, match=r"axes\.warmup: .* takes ranks, variants"):
        read_study(study_file, ["axes.warmup=[0, 0.1]"])
    with pytest.raises(ConfigError, match=r"question\.batch_tokens"):
        read_study(study_file, ["question={}"])


@pytest.mark.ranks  # a process of its own looks at the model
def test_what_leaves_no_curve_is_named(study_file: Path) -> None:
    def problems(*overrides: str) -> list[str]:
        study = read_study(study_file, overrides)
        runs = runs_of_study(study, load(study.base), places_of(study))
        return study_kind(study).grid_problems(study, runs, {})

    assert problems() == []
    (unmeasured,) = problems("settings.train.communication_steps=0")
    assert unmeasured.startswith("train.communication_steps = 0: nothing tells")
    (lone,) = problems("axes.ranks=[2]")
    assert lone.startswith("axes.ranks: 1, and a curve needs at least 2 numbers of ranks")
    (short,) = problems("budgets.tokens=[10240]")
    assert "has 10 steps, and 30 are needed: the first 10 do not count" in short
    several = problems("budgets.tokens=[61440, 122880]")
    assert several[0].startswith("budgets: d122880, d61440; a study of throughput has one")


@pytest.mark.ranks  # a process of its own looks at the model
def test_what_decides_speed_alone_makes_another_run(study_file: Path) -> None:
    """Two templates have the same losses; a study of speed tells their runs apart."""

    def names(*overrides: str) -> set[str]:
        study = read_study(study_file, overrides)
        return {run.name for run in runs_of_study(study, load(study.base), places_of(study))}

    assert names() == names()
    # A variant with a template of its own stays what it was.
    same = names() & names("settings.deepspeed=zero3")
    assert same
    assert all("-zero2-" in name for name in same)
    assert names().isdisjoint(names("settings.train.communication_steps=3"))
