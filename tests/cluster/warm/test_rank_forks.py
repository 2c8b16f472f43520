"""The launcher that forks ranks, with ranks that compute nothing."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster.warm.forked_launch import LAUNCHER
from pipeline.store.rank_environment import LOCAL_RANK, WORLD_RANK, WORLD_SIZE
from pipeline.work.warm.held_python import HeldPython

pytestmark = pytest.mark.ranks

RANK = """\
import json, os, sys, time
from pathlib import Path
rank = int(os.environ["RANK"])
seconds = json.loads(sys.argv[-1])["seconds"][rank]
codes = json.loads(sys.argv[-1])["codes"]
time.sleep(seconds)
Path(f"rank_{rank}.json").write_text(json.dumps([sys.argv[1:-1], dict(os.environ)]))
sys.exit(codes[rank])
"""
"""A rank that sleeps, writes what it was given, and ends with a code."""
END_SECONDS = 20.0


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldPython]:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "a_rank.py").write_text(RANK)
    path = os.pathsep.join([str(folder), *sys.path])
    with HeldPython(["json"], {**os.environ, "PYTHONPATH": path}) as held:
        yield held


def launch(held: HeldPython, folder: Path, seconds: list[float], codes: list[int]) -> int:
    """Fork ranks in a folder; return the exit code of their launcher."""
    asked = json.dumps({"seconds": seconds, "codes": codes})
    command = [LAUNCHER, str(len(codes)), "20001", "a_rank", asked]
    with (
        Path(os.devnull).open("rb") as nothing,
        (folder / "log").open("wb") as log,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(folder)
        return held.start(command, dict(os.environ), (nothing, log, log)).wait()


def test_each_rank_has_its_number_and_its_environment(held: HeldPython, tmp_path: Path) -> None:
    assert launch(held, tmp_path, [0, 0], [0, 0]) == 0
    for rank in (0, 1):
        arguments, environment = json.loads((tmp_path / f"rank_{rank}.json").read_text())
        assert arguments == [f"--local_rank={rank}"]
        assert [environment[name] for name in (WORLD_RANK, LOCAL_RANK, WORLD_SIZE)] == [
            str(rank),
            str(rank),
            "2",
        ]
        assert environment["MASTER_PORT"] == "20001"


def test_ranks_that_fail_together_can_all_say_why(held: HeldPython, tmp_path: Path) -> None:
    """The code is that of the first one."""
    assert launch(held, tmp_path, [0, 0.3, 0.1], [3, 4, 0]) == 3
    assert sorted(path.name for path in tmp_path.glob("rank_*")) == [
        "rank_0.json",
        "rank_1.json",
        "rank_2.json",
    ]
    assert "ended with exit code 3: ending the others" in (tmp_path / "log").read_text()


def test_a_rank_that_goes_on_is_killed(held: HeldPython, tmp_path: Path) -> None:
    began = time.monotonic()
    assert launch(held, tmp_path, [600, 0], [0, 1]) == 1
    assert time.monotonic() - began < END_SECONDS
    assert not (tmp_path / "rank_0.json").exists()
