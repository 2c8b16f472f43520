"""The same tools everywhere: what pre-commit runs is what jobs/test.sh runs."""

import re
import tomllib
from pathlib import Path

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
