"""`pipeline verify-resume`: test on this machine that a killed and resumed run is the same run.

Trains a few steps of a run file undisturbed, and again with every process killed halfway. The
killed run is resumed on the same number of ranks, and on another one. Each training is a `pipeline
train` of its own, with this launcher, on CPUs in a fork of one process that imports once; all runs are
kept in one folder.
"""

import math
import os
import shutil
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import yaml

from pipeline.benchmarks.common import show_table
from pipeline.checkpoint.folders import complete_checkpoints
from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import launch_kind
from pipeline.cluster.local_launch import CPU_RANKS
from pipeline.cluster.ranks import end_leftovers
from pipeline.cluster.warm.training_starter import StartedTraining, TrainingStarter, process_number
from pipeline.config.batch_division import dividing_ranks
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump, load
from pipeline.config.yaml_files import to_yaml
from pipeline.errors import ConfigError, RequirementError, UserError
from pipeline.logs import note
from pipeline.store.events import read_events
from pipeline.store.files import write_atomic
from pipeline.store.layout import LEASE, START_ORDER, RunFolder
from pipeline.store.metrics import read_metrics

if TYPE_CHECKING:
    from pipeline.checkpoint.stored_weights import StoredWeights

LEAST_STEPS = 4
OTHER_RANKS = {"fp32": 1e-5, "bf16": 5e-3, "fp16": 5e-3}
"""Number format -> largest difference of losses, in nats per token, on another number of ranks.

Other ranks add gradients in another order."""
OWN_NOISE = 3.0
"""A resumed run may differ by this factor times the difference of two undisturbed runs: kernels of
GPUs may add in any order."""
POLL_SECONDS = 0.02
"""Time between two looks for the checkpoint after which a run is killed."""
ORPHANS_SECONDS = 60.0
"""Time that killed processes may take to end."""
RUN_FILE = "run.yaml"
PASSED = "passed"
FAILED = "FAILED"


@dataclass(frozen=True)
class Trainings:
    """What all trainings of one check have in common."""

    config: RunConfig
    steps: int
    ranks: int
    """Ranks of the run that is killed; it may be resumed on others."""
    folder: Path
    """Holds a folder for each run."""
    starter: TrainingStarter


@dataclass(frozen=True)
class Difference:
    """The largest differences between two runs of the same steps; NaN counts as the largest."""

    loss: float
    """Nats per token, over all steps."""
    weight: float
    """Over all fp32 weights of the last checkpoint."""
    moment: float
    """Over all optimizer moments of the last checkpoint."""

    @property
    def largest(self) -> float:
        return largest_of((self.loss, self.weight, self.moment))


def largest_of(differences: Iterable[float]) -> float:
    """Return the largest difference, NaN if there is one, 0 without any.

    Python's `max` would ignore a NaN that is not the first: comparisons with NaN are false.
    """
    largest = 0.0
    for difference in differences:
        if math.isnan(difference):
            return difference
        largest = max(largest, difference)
    return largest


def compare_resumed_runs(
    config: RunConfig, steps: int, other_ranks: int | None, folder: Path
) -> None:
    """Train, compare, print a table; the runs are kept in `folder`, which must not exist.

    Raises RequirementError where a resumed run differs too much, ConfigError for steps or ranks
    that are impossible.
    """
    # Refuse mistakes before anything is trained.
    if steps < LEAST_STEPS or steps % 2:
        raise _command_line_error(f"--steps {steps}: must be even and at least {LEAST_STEPS}")
    if folder.exists():
        raise _command_line_error(
            f"--folder {folder}: exists already; choose a new folder, or remove this one"
        )
    ranks = launch_kind(config).rank_count(config)
    _refuse_other_ranks(config, ranks, other_ranks)
    other = other_ranks
    if other is None:
        other = _other_ranks(config, ranks)

    with TrainingStarter(config) as starter:
        trainings = Trainings(config, steps, ranks, folder, starter)
        rows = _table_rows(trainings, other)

    columns = ("", "losses", "weights", "moments", "allowed", "")
    show_table(f"Largest differences from an undisturbed run of {steps} steps", columns, rows)
    if other is None:
        note("verify-resume: no other number of ranks can run here; left out")
    if any(row[-1] == FAILED for row in rows):
        raise RequirementError(
            f"verify-resume: a resumed run differs from the undisturbed one; all are kept in {folder}"
        )


def _table_rows(trainings: Trainings, other: int | None) -> list[tuple[str, ...]]:
    """Train, kill and resume; return a row of differences for each number of ranks.

    `other`: the other number of ranks; None for no other.
    """
    config = trainings.config
    steps = trainings.steps
    ranks = trainings.ranks

    # The run that the others are compared with, and the run that they resume.
    undisturbed = _train(trainings, ranks, trainings.folder / "undisturbed")
    note(f"verify-resume: {steps} steps again, killed after step {steps // 2}")
    _train_and_kill(trainings, trainings.folder / "killed")

    # On the same ranks everything is compared, on others the losses.
    difference = run_difference(undisturbed, _resume_on(ranks, trainings))
    allowed = _allowed(trainings, difference)
    rows = [_table_row(ranks, ranks, difference, allowed, difference.largest <= allowed)]
    if other is not None:
        difference = run_difference(undisturbed, _resume_on(other, trainings))
        allowed = OTHER_RANKS[config.precision.dtype]
        rows.append(_table_row(ranks, other, difference, allowed, difference.loss <= allowed))
    return rows


def _resume_on(count: int, trainings: Trainings) -> Path:
    """Resume a copy of the killed run on `count` ranks; return its run folder."""
    if count == trainings.ranks:
        note(f"verify-resume: resuming on {count} ranks")
    else:
        note(f"verify-resume: resuming on {count} ranks instead of {trainings.ranks}")
    folder = trainings.folder
    resumed = folder / f"resumed-on-{count}-ranks"
    # Leases and start orders belong to the killed processes, which may still watch them elsewhere.
    of_processes = shutil.ignore_patterns(f"{LEASE}*", START_ORDER)
    shutil.copytree(folder / "killed", resumed, copy_function=_link_or_copy, ignore=of_processes)
    run = _train(trainings, count, resumed)
    check_resumed_halfway(run, trainings.steps)
    return run


def check_resumed_halfway(run: Path, steps: int) -> None:
    """Raise UserError where the copy of a killed run has trained another part than the second half.

    A process that outlived the kill may have gone on training before the copy was made.
    """
    resumes = [event.get("step") for event in read_events(run, "resume")]
    if resumes != [steps // 2]:
        raise UserError(
            f"{run}: was to resume once, after step {steps // 2}, but resumed after {resumes}: this "
            "proves nothing; look for processes of the killed run, try again with more --steps"
        )


def _table_row(
    ranks: int, resumed_ranks: int, difference: Difference, allowed: float, is_passed: bool
) -> tuple[str, ...]:
    numbers = (difference.loss, difference.weight, difference.moment, allowed)
    verdict = FAILED
    if is_passed:
        verdict = PASSED
    return (
        f"{ranks} ranks, killed, {resumed_ranks} ranks",
        *(f"{number:.3g}" for number in numbers),
        verdict,
    )


def _command_line_error(problem: str) -> ConfigError:
    return ConfigError([problem], "the command line")


def _refuse_other_ranks(config: RunConfig, ranks: int, other: int | None) -> None:
    """Raise ConfigError where `--other-ranks` is the run's number, or the launcher sets it."""
    if other is None:
        return
    if other == ranks:
        raise _command_line_error(
            f"--other-ranks {other}: the run has {ranks} ranks; choose another number"
        )
    ranks_are_set_by = launch_kind(config).ranks_are_set_by
    if ranks_are_set_by is not None:
        raise _command_line_error(
            f"--other-ranks {other}: with launch.kind = {config.launch.kind}, {ranks_are_set_by} "
            "sets the number of ranks; leave out --other-ranks"
        )


def run_difference(one: Path, other: Path) -> Difference:
    """Return the largest differences of two finished runs of the same steps.

    Compares all losses, and the weights and moments of the last checkpoints. A weight or moment
    that is NaN in either run makes the difference NaN, which is never allowed. Raises UserError
    where the runs have trained different steps.
    """
    from pipeline.checkpoint.stored_weights import open_stored_weights

    # Losses of every step.
    losses = {record["step"]: record["loss"] for record in read_metrics(one)}
    other_losses = {record["step"]: record["loss"] for record in read_metrics(other)}
    if losses.keys() != other_losses.keys():
        only_one = sorted(losses.keys() ^ other_losses.keys())
        raise UserError(f"{one} and {other}: have not trained the same steps: {only_one}")

    loss = largest_of(_loss_gap(losses[step], other_losses[step]) for step in losses)

    # Tensors of the last checkpoints.
    stored = open_stored_weights(complete_checkpoints(RunFolder(one).checkpoints)[-1])
    other_stored = open_stored_weights(complete_checkpoints(RunFolder(other).checkpoints)[-1])
    weight, moment = tensor_differences(stored, other_stored)
    return Difference(loss, weight, moment)


def tensor_differences(one: "StoredWeights", other: "StoredWeights") -> tuple[float, float]:
    """Return the largest difference of the weights and that of the moments of two checkpoints.

    Reads one tensor at a time: a model may be larger than the memory.
    """
    from pipeline.engine.optimizers.optimizer_kind import moment_names

    weight_gaps = [
        float((one.weight(name) - other.weight(name)).abs().max()) for name in one.shapes
    ]
    moment_gaps: list[float] = []
    for moment in moment_names():
        read = one.moment_reader(moment)
        read_other = other.moment_reader(moment)
        for name in one.names_with(moment):
            moment_gaps.append(float((read(name) - read_other(name)).abs().max()))
    return largest_of(weight_gaps), largest_of(moment_gaps)


def _loss_gap(one: float | None, other: float | None) -> float:
    """Return the difference of two losses; infinite where only one of them is finite."""
    if one is not None and other is not None:
        return abs(one - other)
    if one is None and other is None:
        return 0.0
    return math.inf


def _allowed(trainings: Trainings, difference: Difference) -> float:
    """Return how much a run resumed on the same ranks may differ.

    Zero, unless two undisturbed runs differ on this machine by a finite number: then OWN_NOISE
    times that. A difference that is NaN or infinite is never allowed.
    """
    if difference.largest == 0:
        return 0.0
    if not math.isfinite(difference.largest):
        note(
            "verify-resume: a loss is missing in one run only, or a weight or moment is NaN or "
            "infinite: this counts as the largest difference, which no noise of the machine excuses"
        )
        return 0.0
    note(
        "verify-resume: the results are not bit-identical; repeating the uninterrupted training, to "
        "measure how much two such runs differ on this machine"
    )
    again = _train(trainings, trainings.ranks, trainings.folder / "undisturbed-again")
    own_noise = run_difference(trainings.folder / "undisturbed" / "run", again).largest
    if not math.isfinite(own_noise):
        return 0.0
    return OWN_NOISE * own_noise


def _other_ranks(config: RunConfig, ranks: int) -> int | None:
    """Return another number of ranks that this machine can run and that divides the batch."""
    if launch_kind(config).ranks_are_set_by is not None:
        return None
    available = ranks // 2
    if ranks == 1:
        available = min(2, gpu_count() or CPU_RANKS)
    other = dividing_ranks(config, available)
    if other == ranks:
        return None
    return other


def _write_run_file(config: RunConfig, steps: int, ranks: int, home: Path) -> Path:
    """Write a run file that trains only the first steps and saves halfway; return its path."""
    document = yaml.safe_load(dump(config))

    # The schedule has to fit into the few steps.
    tokens = config.step_plan.tokens_after(steps)
    document["paths"]["run_dir"] = str(home.absolute() / "run")
    document["train"] |= {"train_tokens": tokens, "validate_every_steps": steps, "resume": "auto"}
    document["schedule"]["warmup_tokens"] = min(config.schedule.warmup_tokens, tokens // 2)
    if config.schedule.decay_tokens is not None:
        document["schedule"]["decay_tokens"] = min(config.schedule.decay_tokens, tokens // 2)

    # Two checkpoints: halfway and at the end.
    document["checkpoint"] |= {
        "save_every_steps": steps // 2,
        "keep_last": 2,
        "keep_every_steps": None,
        "keep_log_spaced": False,
        "keep_steps": [],
    }
    document["logging"]["trackers"] = []
    if launch_kind(config).ranks_are_set_by is None:
        document["launch"]["ranks"] = ranks

    run_file = home / RUN_FILE
    home.mkdir(parents=True, exist_ok=True)
    write_atomic(run_file, to_yaml(document, is_ascii=False))
    return run_file


def _start(trainings: Trainings, ranks: int, home: Path) -> StartedTraining:
    run_file = _write_run_file(trainings.config, trainings.steps, ranks, home)
    return trainings.starter.start(run_file, ranks, home / "train.log")


def _train(trainings: Trainings, ranks: int, home: Path) -> Path:
    """Train to the end; return the run folder. Raises UserError where training fails."""
    code = _start(trainings, ranks, home).wait()
    if code:
        tail = "\n".join((home / "train.log").read_text(errors="replace").splitlines()[-20:])
        raise UserError(
            f"pipeline train ended with exit code {code}; the end of {home / 'train.log'}:\n{tail}"
        )
    return home / "run"


def _link_or_copy(source: str, target: str) -> None:
    """Link files of checkpoints, which never change once they are complete; copy others."""
    if Path(source).parent.parent.name == "checkpoints":
        # Some file systems have no hard links.
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _train_and_kill(trainings: Trainings, home: Path) -> None:
    """Train until the checkpoint halfway is complete, then send SIGKILL to all processes of the run.

    Raises UserError where the run had ended before.
    """
    process = _start(trainings, trainings.ranks, home)
    # The path that the ranks show, by which those are found that are no children of the supervisor.
    run_dir = load(home / RUN_FILE).paths.run_dir
    while not read_events(run_dir, "save"):
        time.sleep(POLL_SECONDS)
        if process.poll() is not None:
            break

    # The supervisor first, so that it cannot end its ranks in order.
    below: list[psutil.Process] = []
    if process.poll() is None:
        below = psutil.Process(process_number(process)).children(recursive=True)
    for victim in [process, *below]:
        with suppress(psutil.Error, ProcessLookupError):
            victim.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(below, timeout=ORPHANS_SECONDS)
    end_leftovers(RunFolder(run_dir).config)
    if read_events(run_dir, "end"):
        raise UserError(
            "the run had ended before it could be killed; ask for more steps than --steps "
            f"{trainings.steps}, in another --folder"
        )
