"""Facts on which a result depends are the same on a busy machine."""

import subprocess
from typing import Any

import pytest

from pipeline.store.environment import git_state


def test_git_is_given_the_time_that_it_takes_and_takes_no_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit that was missing in some results told how busy the machine had been."""
    commands: list[list[str]] = []
    limits: list[float | None] = []
    run: Any = subprocess.run

    def noted(command: list[str], **options: Any) -> Any:
        commands.append(command)
        limits.append(options.get("timeout"))
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", noted)
    git_state()
    assert {command[0] for command in commands} == {"git"}
    assert all("--no-optional-locks" in command for command in commands)
    assert limits == [None] * len(commands)
