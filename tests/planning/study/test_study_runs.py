"""The runs of a study, by hand."""

import shutil
from pathlib import Path

import pytest
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_file import load
from pipeline.config.schedules import learning_rate
from pipeline.config.study_file import BatchRule, read_study
from pipeline.errors import ConfigError
from pipeline.planning.study.grid import batch_sequences, runs_of_study
from pipeline.planning.study.study_run import StudyRun

pytestmark = pytest.mark.usefixtures("forked_checks")

STUDY = """\
kind: scaling
base: run.yaml
folder: made
sizes: {widths: [16, 32], width_per_layer: 16, head_dim: 8}
budgets: {tokens: [12800, 25600, 51200, 102400]}
rules: {warmup: 0.1, decay: 0.2}
"""
BRANCHES = ["rules.cooldown=branches"]


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study file beside its base; the figures of its models are found once."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "run.yaml").write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    path = folder / "study.yaml"
    path.write_text(STUDY)
    return path


def runs_of(study_file: Path, *overrides: str) -> list[StudyRun]:
    study = read_study(study_file, overrides)
    return runs_of_study(study, load(study.base))


@pytest.mark.ranks
def test_sizes_keep_the_bases_proportions(study_file: Path) -> None:
    small, large = (
        run.config.model.config for run in runs_of(study_file, "budgets.tokens=[12800]")
    )
    assert (small["hidden_size"], small["num_hidden_layers"]) == (16, 1)
    assert (small["num_attention_heads"], small["intermediate_size"]) == (2, 32)
    assert (large["hidden_size"], large["num_hidden_layers"]) == (32, 2)
    assert (large["num_attention_heads"], large["intermediate_size"]) == (4, 64)
    assert large["max_position_embeddings"] == 64, "what is no size is the base's"


@pytest.mark.ranks
def test_a_budget_of_flops_counts_attention(study_file: Path) -> None:
    run, _ = runs_of(study_file, "budgets.tokens=[]", "budgets.flops=[1e10]")
    facts = run.facts
    # One layer, 16 wide, sequences of 32 tokens.
    assert run.flops_per_token == 6 * facts.active_parameters + 12 * 1 * 16 * 32
    assert run.flops == run.flops_per_token * run.tokens
    assert abs(run.flops - 1e10) <= run.flops_per_token * 256 / 2, "rounded to whole steps"
    # Tokens a parameter count the parameters that multiply.
    run, _ = runs_of(study_file, "budgets.tokens=[]", "budgets.tokens_per_parameter=[20]")
    assert abs(run.tokens - 20 * facts.active_parameters) <= 128


@pytest.mark.ranks
def test_branches_share_a_trunk_and_save_what_it_trains(study_file: Path) -> None:
    runs = [run for run in runs_of(study_file, *BRANCHES) if run.size == "w32"]
    trunk, *branches = runs
    assert [run.tokens for run in runs] == [102400, 51200, 25600, 12800]
    assert [run.steps for run in runs] == [400, 200, 100, 50]
    # Each begins where its own decay of a fifth begins.
    assert [run.first_step for run in runs] == [1, 161, 81, 41]
    assert trunk.config.checkpoint.keep_steps == (40, 80, 160)
    for run in branches:
        assert run.trunk == trunk.name
        assert str(run.config.train.init_from).endswith(f"{trunk.name}/run@{run.first_step - 1}")
        assert run.config.train.init_take == "everything"
    # 1, 2, 4 and 8 units: 8 and a fifth of 7, of 15, are 37 % fewer; with a tenth 42 %.
    saved = 1 - sum(run.own_flops for run in runs) / sum(run.flops for run in runs)
    assert saved == pytest.approx(1 - (8 + 0.2 * 7) / 15)
    tenth = [run for run in runs_of(study_file, *BRANCHES, "rules.decay=0.1") if run.size == "w32"]
    saved = 1 - sum(run.own_flops for run in tenth) / sum(run.flops for run in tenth)
    assert saved == pytest.approx(1 - (8 + 0.1 * 7) / 15)


@pytest.mark.ranks
def test_a_branch_has_the_learning_rates_of_a_run_of_its_own(study_file: Path) -> None:
    runs = [run for run in runs_of(study_file, *BRANCHES) if run.size == "w32"]
    trunk, branch = runs[0].config, runs[1].config
    rates = [learning_rate(branch, step) for step in range(1, 201)]
    assert rates[:160] == [learning_rate(trunk, step) for step in range(1, 161)]
    assert rates[159] == learning_rate(trunk, 200) == trunk.optimizer.peak_learning_rate
    assert rates[199] < rates[180] < rates[161] < rates[159]


@pytest.mark.ranks
def test_names_follow_from_what_decides_the_loss(study_file: Path) -> None:
    names = [run.name for run in runs_of(study_file)]
    assert len(set(names)) == len(names)
    assert names[0].startswith("w16-d102400-s1-")
    # How and where it runs changes no name.
    for override in ("executor.jobs=2", "executor.ranks=2", "settings.launch.ranks=2"):
        assert [run.name for run in runs_of(study_file, override)] == names
    branches = [run.name for run in runs_of(study_file, *BRANCHES)]
    moved = runs_of(study_file, *BRANCHES, "folder=/elsewhere")
    assert [run.name for run in moved] == branches
    other = [run.name for run in runs_of(study_file, "settings.optimizer.beta2=0.9")]
    assert not set(other) & set(names)


@pytest.mark.ranks
def test_other_tokens_are_other_runs_wherever_they_lie(study_file: Path) -> None:
    names = [run.name for run in runs_of(study_file)]
    tokens = study_file.parent / "data" / "tokens" / "manifest.json"
    tokens.parent.mkdir(parents=True)
    tokens.write_text('{"fingerprint": "f", "output": "one"}')
    one = [run.name for run in runs_of(study_file)]
    tokens.write_text('{"fingerprint": "f", "output": "two"}')
    two = [run.name for run in runs_of(study_file)]
    assert not set(one) & set(two) and not set(names) & set(one)
    elsewhere = study_file.parent / "elsewhere" / "tokens" / "manifest.json"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text('{"fingerprint": "g", "output": "two"}')
    moved = f"settings.paths.data_dir={study_file.parent / 'elsewhere'}"
    assert [run.name for run in runs_of(study_file, moved)] == two
    shutil.rmtree(study_file.parent / "data")
    shutil.rmtree(study_file.parent / "elsewhere")


@pytest.mark.ranks
def test_rules_reach_the_run_files(study_file: Path) -> None:
    run = runs_of(
        study_file,
        "rules.mup_base_width=16",
        "rules.learning_rate=square-root",
        "rules.batch.tokens=256",
        "rules.batch.at_tokens=12800",
        "rules.batch.exponent=0.5",
        "rules.validations=4",
        "seeds=[3]",
        "budgets.tokens=[51200]",
    )[0]
    config = run.config
    assert (config.model.mup, config.model.mup_base_width) == (True, 16)
    assert config.batch.global_batch_tokens == 512, "256 x sqrt(51,200 / 12,800)"
    assert config.learning_rate_factor == pytest.approx(2**0.5)
    assert (run.steps, config.train.validate_every_steps, config.train.seed) == (100, 25, 3)
    assert config.schedule.warmup_tokens == 5120


def test_a_batch_is_divisible_by_its_largest_power_of_two_in_reach() -> None:
    rule = BatchRule(tokens=1024, at_tokens=1_000_000, exponent=0.5)
    assert batch_sequences(rule, 1_000_000, 64) == 16
    assert batch_sequences(rule, 4_000_000, 64) == 32
    assert batch_sequences(rule, 2_000_000, 64) == 24, "22.6, in multiples of 4"
    assert batch_sequences(rule, 1_000, 64) == 1, "0.5 is at least one"


@pytest.mark.ranks
def test_problems_of_all_sizes_are_named_with_their_size(study_file: Path) -> None:
    with pytest.raises(ConfigError) as error:
        runs_of(study_file, "settings.optimizer.peak_learning_rate=-1")
    assert "settings: optimizer.peak_learning_rate = -1" in str(error.value)
    with pytest.raises(ConfigError, match=r"settings: optimizer\.beta: unknown key"):
        runs_of(study_file, "settings.optimizer.beta=1")


@pytest.mark.ranks
def test_presets_bring_model_and_learning_rate(study_file: Path) -> None:
    presets = ["sizes.widths=[]", "sizes.presets=[gpt3-125m]", "budgets.tokens=[12800]"]
    (run,) = runs_of(study_file, *presets)
    assert run.config.model.config["hidden_size"] == 768
    assert run.config.optimizer.peak_learning_rate == 6e-4
    assert run.config.data.sequence_length == 32, "the data are the base's"
    (run,) = runs_of(study_file, *presets, "rules.mup_base_width=64")
    assert run.config.optimizer.peak_learning_rate == 1e-2, "muP takes the base's for all widths"
