"""Groups of commands that are built when they are asked for."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from pipeline.__main__ import app
from pipeline.cli.command_line.later_groups import GROUPS, LaterGroup

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_a_group_has_its_commands(group: LaterGroup) -> None:
    built = group.build()
    assert (built.name, built.help) == (group.name, group.help)
    assert len(built.commands) >= 3
    assert all(command.help for command in built.commands.values())
    listed = typer.main.get_group(app).commands[group.name]
    assert listed.help == group.help


@pytest.mark.ranks
def test_help_imports_no_group() -> None:
    script = (
        "import sys\n"
        "sys.argv = ['pipeline', '--help']\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    sys.stderr.write(' '.join(sys.modules))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    modules = set(process.stderr.split())
    assert "pipeline.store.stages" in modules
    assert (
        modules
        & {
            "pipeline.cli.study.study_group",
            "pipeline.cli.command_line.task_group",
            "pipeline.store.files",
            "importlib.metadata",
            "rich",
            "pydantic",
        }
        == set()
    )
