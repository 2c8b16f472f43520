"""The settings of a run, by its folder and by a run file; also where some no longer exist."""

from pathlib import Path

import pytest
import yaml

from pipeline.config.run_file import dump, load
from pipeline.errors import ConfigError, DataError
from pipeline.store.recorded_run import recorded_config


def begin_run(run_file: Path, **evaluation: object) -> Path:
    """Record a run's settings, with more of its evaluation, as its supervisor does."""
    config = load(run_file, ["evaluation.shots=[0,3]", "train.seed=5"])
    config.paths.run_dir.mkdir(parents=True)
    settings = yaml.safe_load(dump(config))
    settings["evaluation"] |= evaluation
    (config.paths.run_dir / "config.yaml").write_text(yaml.safe_dump(settings))
    return config.paths.run_dir


def test_a_place_with_nothing_is_named_with_the_remedy(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(DataError) as refused:
        recorded_config(missing, [])
    assert str(refused.value) == (
        f"{missing}: no such file or folder. Give the folder of a run, or its run file."
    )


def test_the_settings_are_those_that_the_run_recorded(run_file: Path) -> None:
    run_dir = begin_run(run_file)
    for place in (run_dir, run_file):
        config = recorded_config(place, [])
        assert config.train.seed == 5
        assert config.paths.run_dir == run_dir
    assert recorded_config(run_dir, ["train.seed=6"]).train.seed == 6


def test_settings_of_evaluation_that_are_gone_are_left_out(run_file: Path) -> None:
    run_dir = begin_run(run_file, items=200)
    with pytest.raises(ConfigError, match=r"evaluation\.items: unknown key"):
        load(run_dir / "config.yaml")
    config = recorded_config(run_dir, [])
    assert config == recorded_config(begin_again(run_dir), [])
    assert tuple(config.evaluation.own_shots) == (0, 3)
    assert recorded_config(run_dir, ["evaluation.shots=[1]"]).evaluation.own_shots == (1,)


def begin_again(run_dir: Path) -> Path:
    """Take the setting out of the recorded file."""
    file = run_dir / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    del settings["evaluation"]["items"]
    file.write_text(yaml.safe_dump(settings))
    return run_dir


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no run \(no config\.yaml\)"):
        recorded_config(tmp_path, [])
