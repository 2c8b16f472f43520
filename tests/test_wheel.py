"""The package as a wheel installs it: without the repository, in any folder. Uses no network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCES = ("pipeline", "ds_configs", "tokenizer", "jobs")
FILES = ("pyproject.toml", "README.md", "LICENSE")
BUILD = "import setuptools.build_meta as backend; backend.build_wheel('wheels')"
RUN_FILE = """\
preset: gpt3-125m
paths: {data_dir: data, run_dir: run}
sources: {web: {kind: jsonl, paths: [corpus]}}
tokenizer: {recipe: sentencepiece-bpe-32k}
deepspeed: zero1
"""


def run(*command: object, folder: Path, python_path: Path | None = None) -> str:
    """Run Python in a folder and return what it printed; only `python_path` comes before the
    installed packages."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    ended = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, install it, and return where it lies."""
    sources = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, sources / name, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, sources)
    run("-c", BUILD, folder=sources)
    (wheel,) = (sources / "wheels").glob("*.whl")
    folder = tmp_path_factory.mktemp("installed")
    install = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile")
    run(*install, "--disable-pip-version-check", "--target", folder, wheel, folder=sources)
    shutil.rmtree(sources)
    return folder


@pytest.mark.ranks
def test_a_wheel_holds_every_file_that_a_run_file_may_name(installed: Path) -> None:
    config = installed / "pipeline" / "config"
    for below, top in (("templates", "ds_configs"), ("recipes", "tokenizer")):
        shipped = {path.name for path in (ROOT / top).iterdir()} - {"README.md"}
        assert {path.name for path in (config / below).iterdir()} == shipped
        assert not (config / below).is_symlink()
    scripts = {path.name for path in (ROOT / "jobs" / "slurm").glob("*.sbatch")}
    below_cluster = (installed / "pipeline" / "cluster" / "batch_scripts").iterdir()
    assert {path.name for path in below_cluster} == scripts
    presets = {path.name for path in (ROOT / "pipeline" / "config" / "presets").rglob("*.yaml")}
    assert {path.name for path in (config / "presets").rglob("*.yaml")} == presets


@pytest.mark.ranks
@pytest.mark.parametrize(
    "name", ["pipeline/reporting/pythia_scores.csv", "pipeline/planning/published_runs.csv"]
)
def test_a_wheel_holds_the_published_tables(installed: Path, name: str) -> None:
    assert (installed / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.ranks
def test_a_wheel_says_that_it_is_typed(installed: Path) -> None:
    assert (installed / "pipeline" / "py.typed").is_file()


@pytest.mark.ranks
def test_names_are_found_in_an_installed_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    printed = run("-m", "pipeline", "config", "run.yaml", folder=tmp_path, python_path=installed)
    settings = yaml.safe_load(printed)
    shipped = installed / "pipeline" / "config"
    assert settings["deepspeed"] == str(shipped / "templates" / "zero1.json")
    assert settings["tokenizer"]["recipe"] == str(
        shipped / "recipes" / "sentencepiece-bpe-32k.yaml"
    )
    assert settings["tokenizer"]["vocab_size"] == 32000
    assert settings["model"]["config"]["hidden_size"] == 768
    assert settings["paths"]["data_dir"] == str(tmp_path / "data")


@pytest.mark.ranks
def test_the_example_loads_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    example = run("-m", "pipeline", "config", "--example", folder=tmp_path, python_path=installed)
    (tmp_path / "run.yaml").write_text(example)
    printed = run("-m", "pipeline", "config", "run.yaml", folder=tmp_path, python_path=installed)
    settings = yaml.safe_load(printed)
    assert settings["paths"]["run_dir"] == str(tmp_path / "run")
    assert settings["deepspeed"].startswith(str(installed))
