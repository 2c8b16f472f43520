"""Study files: what is refused, and with which words."""

from pathlib import Path

import pytest

from pipeline.config.study_file import read_study
from pipeline.errors import ConfigError

STUDY = """\
kind: scaling
base: run.yaml
folder: made
sizes: {widths: [16, 32], head_dim: 16}
budgets: {flops: [1e9]}
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def test_paths_start_at_its_folder(study_file: Path) -> None:
    study = read_study(study_file)
    assert study.base == study_file.parent / "run.yaml"
    assert study.folder == study_file.parent / "made"
    assert (study.seeds, study.executor.kind, study.rules.cooldown) == ((1,), "local", "each")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("kind=scalling", "kind = 'scalling': input should be 'scaling'"),
        ("sizes.presets=[gpt3-125m]", "sizes: has widths and presets; give one of them"),
        ("sizes.widths=[24]", "sizes.widths: 24 is no multiple of sizes.head_dim = 16"),
        ("sizes.widths=[16, 16]", "sizes.widths: holds a value twice, to six digits; remove one"),
        (
            "budgets.flops=[]",
            "budgets: needs one of flops, tokens_per_parameter, tokens; it has no",
        ),
        ("budgets.tokens=[1M]", "it has flops and tokens"),
        ("budgets.flops=[-1]", "budgets.flops.0 = -1: input should be greater than 0"),
        ("budgets.flops=[3e8, 3.0000001e8]", "budgets.flops: holds a value twice, to six digits"),
        (
            "budgets={tokens: [0]}",
            "budgets.tokens.0 = 0: input should be greater than or equal to 1",
        ),
        ("rules.warmup=0.9", "together they are more than the training; lower one of them"),
        ("seeds=[]", "seeds"),
        ("seeds=[1, 1]", "seeds: holds a value twice, to six digits; remove one"),
        ("executor.jobs=0", "executor.jobs = 0: input should be greater than or equal to 1"),
        ("axes.ranks=[1, 2]", "axes.ranks: a study of kind scaling has none; remove it"),
        (
            "axes.variants.optimizer={adam: {}}",
            "axes.variants: a study of kind scaling has none; remove it",
        ),
        ("axes.variants={ranks: {}}", "axes.variants.ranks: has no variants; add some"),
        ("axes.variants={ranks: {a: {}}}", "axes.variants.ranks: is the name of another axis"),
        ("axes.variants={of: {a/b: {}}}", "axes.variants.of.a/b: a name has letters, digits"),
        ("axes={warmup: [0, 0]}", "axes.warmup: holds a value twice, to six digits; remove one"),
        (
            "question.depth=3",
            "question: a study of kind scaling has no settings of its own; remove",
        ),
        ("rules.cooldwn=each", "rules.cooldwn: unknown key; did you mean cooldown?"),
    ],
)
def test_what_is_refused(study_file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_study(study_file, [override])
    assert message in str(error.value)


def test_an_unknown_preset_is_named(study_file: Path) -> None:
    with pytest.raises(ConfigError, match="gpt5 is no shipped preset; `pipeline presets` lists"):
        read_study(study_file, ["sizes.widths=[]", "sizes.presets=[gpt5]"])


def test_all_problems_at_once(study_file: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read_study(study_file, ["sizes.widths=[24]", "budgets.flops=[]", "seeds=[2, 2]"])
    assert len(error.value.problems) == 3
