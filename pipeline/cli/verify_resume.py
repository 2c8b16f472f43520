"""`pipeline verify-resume`: does a run that is killed and started again, here and with this
launcher, become the same run?

Trains a few steps of a run file undisturbed, and again with everything killed in the middle, from
where as many ranks go on, and another number of them. Every training is a `pipeline train` of its
own.
"""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from pipeline.benchmarks.common import show_table
from pipeline.checkpoint.folders import complete_checkpoints
from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import dividing_ranks, launch_kind
from pipeline.cluster.local_launch import CPU_RANKS
from pipeline.cluster.ranks import end_leftovers
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.config.yaml_files import to_yaml
from pipeline.errors import ConfigError, RequirementError, UserError
from pipeline.logs import note
from pipeline.store.events import read_events
from pipeline.store.files import write_atomic
from pipeline.store.layout import LEASE, START_ORDER, RunFolder
from pipeline.store.metrics import read_metrics

LEAST_STEPS = 4
OTHER_RANKS = {"fp32": 1e-5, "bf16": 5e-3, "fp16": 5e-3}
"""Largest difference of losses, in nats, that another number of ranks may make by adding in another
order."""
OWN_NOISE = 3.0
"""Times the difference of two undisturbed runs that is no fault of the resume: kernels of GPUs may
add in any order."""
POLL_SECONDS = 0.02
ORPHANS_SECONDS = 60.0


@dataclass(frozen=True)
class Difference:
    """The largest between two runs."""

    loss: float
    """In nats, of any step."""
    weight: float
    moment: float

    @property
    def largest(self) -> float:
        return max(self.loss, self.weight, self.moment)


def verify_resume(config: RunConfig, steps: int, other_ranks: int | None, folder: Path) -> None:
    """Train, compare, print; the runs stay in `folder`, which must not exist.

    Raises RequirementError where a resumed run is another one, ConfigError for steps or ranks that
    cannot be.
    """
    if steps < LEAST_STEPS or steps % 2:
        raise ConfigError(
            [f"--steps {steps}: must be even and at least {LEAST_STEPS}"], "the command line"
        )
    if folder.exists():
        raise ConfigError(
            [f"--folder {folder}: exists already; name a new one, or remove it"], "the command line"
        )
    ranks = launch_kind(config).rank_count(config)
    _refuse_other_ranks(config, ranks, other_ranks)
    other = _other_ranks(config, ranks) if other_ranks is None else other_ranks
    whole = _train(config, steps, ranks, folder / "undisturbed")
    note(f"verify-resume: {steps} steps again, killed after step {steps // 2}")
    _train_and_kill(config, steps, ranks, folder / "killed")
    rows = []
    failed = []
    for count in [ranks, *([other] if other else [])]:
        note(
            f"verify-resume: going on with {count} ranks"
            + ("" if count == ranks else f" instead of {ranks}")
        )
        resumed = folder / f"resumed-on-{count}-ranks"
        # Ranks elsewhere may still be looking at these.
        who_holds_it = shutil.ignore_patterns(f"{LEASE}*", START_ORDER)
        shutil.copytree(
            folder / "killed", resumed, copy_function=_link_or_copy, ignore=who_holds_it
        )
        _train(config, steps, count, resumed)
        found = difference(whole, resumed / "run")
        allowed = (
            _allowed(config, steps, ranks, folder, found)
            if count == ranks
            else OTHER_RANKS[config.precision.dtype]
        )
        passed = (found.largest if count == ranks else found.loss) <= allowed
        failed += [] if passed else [count]
        shown = (f"{value:.3g}" for value in (found.loss, found.weight, found.moment, allowed))
        rows.append(
            (f"{ranks} ranks, killed, {count} ranks", *shown, "passed" if passed else "FAILED")
        )
    columns = ("", "losses", "weights", "moments", "allowed", "")
    show_table(f"Largest differences from an undisturbed run of {steps} steps", columns, rows)
    if other is None:
        note("verify-resume: no other number of ranks can run here; left out")
    if failed:
        raise RequirementError(
            f"verify-resume: the resumed run is another one; all are kept in {folder}"
        )


def _refuse_other_ranks(config: RunConfig, ranks: int, other: int | None) -> None:
    if other == ranks:
        raise ConfigError(
            [f"--other-ranks {other}: the run has {ranks} ranks; name another number"],
            "the command line",
        )
    ranks_are_set_by = launch_kind(config).ranks_are_set_by
    if other is not None and ranks_are_set_by is not None:
        raise ConfigError(
            [
                f"--other-ranks {other}: with launch.kind = {config.launch.kind} "
                f"{ranks_are_set_by} says how many; leave it out"
            ],
            "the command line",
        )


def difference(a: Path, b: Path) -> Difference:
    """Return the largest differences of two finished runs of the same steps. Raises UserError where
    steps are missing."""
    from pipeline.checkpoint.stored_weights import open_stored_weights
    from pipeline.engine.optimizers.optimizer_kind import moment_names

    losses = [{record["step"]: record["loss"] for record in read_metrics(run)} for run in (a, b)]
    if losses[0].keys() != losses[1].keys():
        raise UserError(
            f"{a} and {b}: have trained other steps: {sorted(losses[0].keys() ^ losses[1].keys())}"
        )
    stored = [
        open_stored_weights(complete_checkpoints(RunFolder(run).checkpoints)[-1]) for run in (a, b)
    ]

    def moments() -> Iterator[float]:
        for moment in moment_names():
            readers = [one.moment_reader(moment) for one in stored]
            for name in stored[0].names_with(moment):
                yield float((readers[0](name) - readers[1](name)).abs().max())

    return Difference(
        max(_gap(losses[0][step], losses[1][step]) for step in losses[0]),
        max(
            float((stored[0].weight(n) - stored[1].weight(n)).abs().max()) for n in stored[0].shapes
        ),
        max(moments(), default=0.0),
    )


def _gap(one: float | None, other: float | None) -> float:
    """Return the difference of two losses, infinite where only one of them is finite."""
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return abs(one - other)


def _allowed(config: RunConfig, steps: int, ranks: int, folder: Path, found: Difference) -> float:
    """Return what as many ranks may differ by: nothing, or what two undisturbed runs differ by on
    this machine."""
    if found.largest == 0:
        return 0.0
    note(
        "verify-resume: not the same bits; training undisturbed once more, to see what this "
        "machine adds by itself"
    )
    again = _train(config, steps, ranks, folder / "undisturbed-again")
    return OWN_NOISE * difference(folder / "undisturbed" / "run", again).largest


def _other_ranks(config: RunConfig, ranks: int) -> int | None:
    """Return another number of ranks that this machine can run and that divides the batch."""
    if launch_kind(config).ranks_are_set_by is not None:
        return None
    available = ranks // 2 if ranks > 1 else min(2, gpu_count() or CPU_RANKS)
    other = dividing_ranks(config, available)
    return None if other == ranks else other


def _write(config: RunConfig, steps: int, ranks: int, home: Path) -> Path:
    """Write the run file of a few steps of a run."""
    document = yaml.safe_load(dump(config))
    tokens = config.step_plan.tokens_after(steps)
    document["paths"]["run_dir"] = str(home.absolute() / "run")
    document["train"] |= {"train_tokens": tokens, "validate_every_steps": steps, "resume": "auto"}
    document["schedule"]["warmup_tokens"] = min(config.schedule.warmup_tokens, tokens // 2)
    if config.schedule.decay_tokens is not None:
        document["schedule"]["decay_tokens"] = min(config.schedule.decay_tokens, tokens // 2)
    document["checkpoint"] |= {
        "save_every_steps": steps // 2,
        "keep_last": 2,
        "keep_every_steps": None,
        "keep_log_spaced": False,
    }
    document["logging"]["trackers"] = []
    if launch_kind(config).ranks_are_set_by is None:
        document["launch"]["ranks"] = ranks
    run_file = home / "run.yaml"
    home.mkdir(parents=True, exist_ok=True)
    write_atomic(run_file, to_yaml(document, is_ascii=False))
    return run_file


def _start(run_file: Path) -> subprocess.Popen[bytes]:
    with (run_file.parent / "train.log").open("ab") as log:
        command = [sys.executable, "-m", "pipeline", "train", str(run_file)]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _train(config: RunConfig, steps: int, ranks: int, home: Path) -> Path:
    """Train to the end; returns the run's folder."""
    code = _start(_write(config, steps, ranks, home)).wait()
    if code:
        tail = "\n".join((home / "train.log").read_text(errors="replace").splitlines()[-20:])
        raise UserError(
            f"pipeline train ended with exit code {code}; the end of {home / 'train.log'}:\n{tail}"
        )
    return home / "run"


def _link_or_copy(source: str, target: str) -> None:
    """Give files of checkpoints, which nothing writes to once they are complete, another name; copy
    others."""
    if Path(source).parent.parent.name == "checkpoints":
        with suppress(OSError):  # a file system without hard links
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _train_and_kill(config: RunConfig, steps: int, ranks: int, home: Path) -> None:
    """Train until the checkpoint in the middle is complete, then kill the supervisor and all below
    it with SIGKILL."""
    run_file = _write(config, steps, ranks, home)
    run_dir = home / "run"
    process = _start(run_file)
    while not read_events(run_dir, "save"):
        time.sleep(POLL_SECONDS)
        if process.poll() is not None:
            break
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for victim in [process, *below]:
        with suppress(psutil.Error, ProcessLookupError):
            victim.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(below, timeout=ORPHANS_SECONDS)
    end_leftovers(RunFolder(run_dir).config)
    if read_events(run_dir, "end"):
        raise UserError(
            "the run had ended before it could be killed; ask for more steps than --steps "
            f"{steps}, in another --folder"
        )
