"""SIGKILL to any process of a run at any moment, again and again: the run comes to the weights of
an undisturbed one.

The short form is part of every test run; `bash jobs/test.sh --faults` runs the long one. Both print
what was tried.
"""

import collections
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from supervised import (
    END_SECONDS,
    abandoned_memory,
    finish,
    killed_at_the_end,
    processes_of,
    ranks_of,
    start,
    start_forked,
    steps,
    steps_seen,
    wait_for,
)

from pipeline.cli.verify_resume import run_difference
from pipeline.store.files import read_json
from pipeline.store.layout import START_ORDER

pytestmark = pytest.mark.ranks

MakeRun = Callable[..., Path]
SAVE_EVERY = 20
STEPS_PER_FAULT = 60
START_UP_SECONDS = 0.3
"""From the launcher to the first step at least, where ranks are forked."""
WIDER = ["model.config.hidden_size=128", "model.config.intermediate_size=256"]
"""So that writing a checkpoint takes long enough to be hit."""


@pytest.fixture
def run_file(make_run: MakeRun) -> Iterator[Path]:
    with killed_at_the_end(make_run()) as path:
        yield path


class Attack:
    """One run under fire; `job` is its supervisor, started again whenever it is gone."""

    def __init__(self, run_file: Path, settings: list[str], dice: random.Random) -> None:
        self._run_file, self._settings, self._dice = run_file, settings, dice
        self.hit: collections.Counter[str] = collections.Counter()
        """Faults by moment and by victim."""
        self._struck: str | None = None
        """The start that the last fault has hit: what its processes have left is none of the next
        one's."""
        self.job = start(self._run_file, *settings)

    def strike(self, moment: str, victim: str) -> None:
        """Wait for a moment, kill a victim, and start the supervisor again if it was that."""
        wait_for(self._is_training, 600, "training")
        victims: list[psutil.Process] = []
        if moment == "start-up":  # a start-up of its own: of the launcher that follows a kill
            self._kill("launcher")
            wait_for(lambda: self._present_start() != self._struck, 30, "the end of the ranks")
            time.sleep(self._dice.uniform(0, START_UP_SECONDS))
        elif moment == "save":
            victims = self._members(victim)  # looking for them can take longer than the save
            wait_for(self._is_saving, 180, "a save", every=0.0005)
        else:
            time.sleep(self._dice.uniform(0, 1.5))
        was_starting = not self._is_training()
        self._kill(victim, victims)
        seen = "start-up" if was_starting else "save" if self._is_saving() else "training"
        self.hit.update([seen, victim, "all"])
        if victim == "supervisor":
            self.job.communicate(timeout=END_SECONDS)
            wait_for(
                lambda: not processes_of(self._run_file), END_SECONDS, "the end of orphaned ranks"
            )
            self.job = start(self._run_file, *self._settings)

    def _kill(self, victim: str, members: Sequence[psutil.Process] = ()) -> None:
        self._struck = self._present_start()
        if victim == "supervisor":
            self.job.send_signal(signal.SIGKILL)
            return
        found = list(members)

        def are_there() -> bool:
            found[:] = found or self._members(victim)
            return bool(found) or self._has_ended()

        wait_for(are_there, 180, f"a {victim}")
        with suppress(psutil.Error):
            self._dice.choice(found).send_signal(signal.SIGKILL)

    def _members(self, victim: str) -> list[psutil.Process]:
        ranks = ranks_of(self._run_file)
        others = [process for process in processes_of(self._run_file) if process not in ranks]
        return sorted(ranks if victim == "rank" else others, key=lambda process: process.pid)

    def _has_ended(self) -> bool:
        assert self.job.poll() is None, self.job.communicate()[0]
        return False

    def _is_training(self) -> bool:
        self._has_ended()
        with suppress(FileNotFoundError):  # cleared for the next start
            if self._present_start() in (self._struck, None):
                return False
            beats = list((self._run_file.parent / "run" / "heartbeat").glob("rank_*"))
            return len(beats) == 2 and all('"doing": "step' in path.read_text() for path in beats)
        return False

    def _present_start(self) -> str | None:
        return (read_json(self._run_file.parent / "run" / START_ORDER) or {}).get("start")

    def _is_saving(self) -> bool:
        with suppress(FileNotFoundError):  # renamed at this moment
            return any(
                (self._run_file.parent / "run" / "checkpoints" / ".partial").glob("*/step_*/*")
            )
        return False


def attack(run_file: Path, make_run: MakeRun, moments: list[str]) -> int:
    """Return how many faults the run has survived; all that it comes to is compared with an
    undisturbed one."""
    dice, count = random.Random(len(moments)), len(moments)
    settings = [
        *WIDER,
        f"train.train_tokens={256 * STEPS_PER_FAULT * count}",
        f"checkpoint.save_every_steps={SAVE_EVERY}",
        "batch.micro_batch_sequences=4",
    ]
    settings += ["train.validate_every_steps=1000000", "guard.max_restarts=1000"]
    before = abandoned_memory()
    under_fire = Attack(run_file, settings, dice)
    victims = ["rank", "rank", "launcher", "supervisor"]
    for number, moment in enumerate(moments):
        under_fire.strike(moment, victims[number % 4])
    done = steps(run_file)
    code, output = finish(under_fire.job, seconds=1200 + 10 * count)
    assert code == 0, output
    assert steps_seen(run_file) == list(range(1, STEPS_PER_FAULT * count + 1))
    assert processes_of(run_file) == []
    assert abandoned_memory() <= before
    whole = make_run(name="whole")
    code, output = finish(start_forked(whole, *settings), seconds=1200 + 10 * count)
    assert code == 0, output
    found = run_difference(whole.parent / "whole", run_file.parent / "run")
    hit = dict(under_fire.hit)
    print(
        f"faults: {hit}, the last before step {done}; differences from the undisturbed run: {found}"
    )
    assert found.largest == 0
    assert hit.get("save", 0) >= 0.3 * count, "too few hit a save to count"
    assert hit.get("start-up", 0) >= 0.2 * count, "too few hit a start-up to count"
    return hit["all"]


@pytest.mark.fault("kill or stop of processes", tried=3)
def test_three_kills(run_file: Path, make_run: MakeRun) -> None:
    assert attack(run_file, make_run, ["save", "training", "start-up"]) == 3


@pytest.mark.full
@pytest.mark.fault("kill or stop of processes", tried=5)
def test_five_kills(run_file: Path, make_run: MakeRun) -> None:
    assert attack(run_file, make_run, ["save", "training", "start-up", "save", "save"]) == 5


@pytest.mark.faults
@pytest.mark.fault("kill or stop of processes", tried=100)
def test_a_hundred_kills(run_file: Path, make_run: MakeRun) -> None:
    moments = ["save"] * 50 + ["start-up"] * 22 + ["training"] * 28
    random.Random(1).shuffle(moments)
    assert attack(run_file, make_run, moments) == 100
