"""The same tools everywhere: what pre-commit runs is what jobs/test.sh runs."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def test_pre_commit_runs_the_commands_of_the_test_script() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in hooks]
    script = (ROOT / "jobs" / "test.sh").read_text()
    checks = re.findall(r"^check \w+ (.+)$", script, re.MULTILINE)
    assert entries[:-1] == checks
    assert entries[-1] == 'pytest --numprocesses 2 -m "not ranks"'
    assert re.search(r"^exec pytest --numprocesses 3 .*$", script, re.MULTILINE)


def test_the_changelog_knows_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: bash jobs/slurm/pack-wheels.sh FOLDER"),
        (["wheels", "arm"], "unknown processor arm; there are x86_64 and aarch64"),
        (["wheels", "aarch64", "3.10"], "Python 3.10: must be 3.11 or newer"),
        (["wheels", "aarch64", "3.12", "2.5"], "C library 2.5: must be 2.17 or newer"),
    ],
)
def test_wheels_are_not_packed_for_what_does_not_exist(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    script = ROOT / "jobs" / "slurm" / "pack-wheels.sh"
    ended = subprocess.run(
        ["bash", script, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert ended.returncode == 2
    assert message in ended.stderr
