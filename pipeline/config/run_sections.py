"""The sections of a run file that decide how it runs: checkpoints, guards, launch, workers."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline.config.kinds import LAUNCH_KINDS, KindName
from pipeline.config.values import ByteCount, Location, Section
from pipeline.config.yaml_files import YamlValue


def _as_text(minutes: YamlValue) -> YamlValue:
    """Return minutes written as a YAML number as text; return anything else unchanged."""
    if type(minutes) is int:
        return str(minutes)
    return minutes


SlurmTime = Annotated[str, BeforeValidator(_as_text)]
"""A time as Slurm writes it; minutes alone may also be a YAML number."""
SLURM_TIME_PATTERN = r"^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})$"
"""Minutes, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`."""


def seconds_of_slurm_time(written: str) -> int:
    """Return the seconds of a time that matches SLURM_TIME_PATTERN."""
    days, _, clock = written.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    # After days the first part is hours; without days, one or two parts begin with minutes.
    if not days and len(parts) < 3:
        parts.insert(0, 0)
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


class Checkpoint(Section):
    save_every_steps: int = Field(default=500, ge=1)
    """Steps between checkpoints; one is also saved at the end, and when a signal stops the run."""
    keep_last: int = Field(default=3, ge=1)
    """Number of newest checkpoints to keep; an older one is deleted once a newer one is
    complete."""
    keep_every_steps: int | None = Field(default=None, ge=1)
    """Also save every N steps and never prune those checkpoints. A rollback past them still deletes
    them."""
    keep_log_spaced: bool = False
    """Also save at steps 1, 2, 4, 8, ... and never prune those checkpoints, to study how a model
    learns. A rollback past them still deletes them."""
    keep_steps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Also save at these steps and never prune those checkpoints, for example so that other runs can
    begin there. A rollback past them still deletes them."""
    asynchronous: bool = True
    """Copy the state to host memory and train on while the copy is written. `false`: training waits
    until the checkpoint is written, without a copy."""
    verify: Literal["checksums", "sizes"] = "checksums"
    """What is compared with the manifest of a checkpoint before it is loaded: the checksums of its
    files, or only their sizes."""


class Guard(Section):
    max_restarts: int = Field(default=3, ge=0)
    """Maximum number of restarts after ranks died or hung, without a new checkpoint in between. Not
    restarted: ranks that stop at a mistake in the settings, and ranks that all fail at the same
    place before their first step with an error that would repeat."""
    stall_seconds: float | None = Field(default=None, gt=0)
    """Seconds without progress on any rank after which the ranks count as hung. Default: 20 times
    the median step, at least 60 s."""
    start_up_seconds: float = Field(default=1800, gt=0)
    """As `stall_seconds`, but before the first step, which may wait for file systems and
    compilers."""
    max_skipped_updates: int = Field(default=3, ge=0)
    """Maximum number of consecutive steps whose update is skipped because the loss or the gradient
    is not finite. One more such step rolls the run back."""
    spike_deviations: float | None = Field(default=20, gt=0)
    """A loss this many robust standard deviations above the median of the last losses is a spike.
    The run then rolls back to the newest checkpoint before the suspected steps and skips the
    samples of those steps. `null`: no loss counts as a spike."""
    spike_window_steps: int = Field(default=100, ge=8)
    """Number of last losses over which the median is taken. No loss counts as a spike before there
    are as many; counting restarts where mixture, batch or length change and where a branch
    begins."""
    spike_skipped_steps: int = Field(default=2, ge=1)
    """Steps whose samples are skipped, the last one being the step of the spike. Earlier ones
    count because a spike shows the weights that the step before it made."""
    max_rollbacks: int = Field(default=5, ge=0)
    """Maximum number of rollbacks; where another one is needed, the run ends with a message."""


class Launch(Section):
    kind: Annotated[str, KindName(LAUNCH_KINDS)] = "local"
    """`local`: ranks on this machine, on GPUs by the deepspeed launcher, on a CPU as forks of a
    process that imports torch once. `slurm`: `srun` inside the allocation of the job. `hostfile`:
    the deepspeed launcher on the hosts of `hostfile`, through pdsh and ssh; all hosts must see the
    folders of the run at the same paths."""
    hostfile: Location | None = None
    """`hostfile` only: file with a line `HOST slots=N` for each host, which gets N ranks. The first
    host is this machine, or one that this machine can reach."""
    ranks: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Number of training processes. `auto`: with kind `local` one per GPU, or 2 without a GPU, but
    only as many as divide the batch; with `slurm` the tasks of the allocation; with `hostfile` the
    slots."""
    master_port: int = Field(default=0, ge=0, lt=65536)
    """TCP port through which the ranks find each other; 0 takes a free one."""
    time_limit: SlurmTime | None = Field(default=None, pattern=SLURM_TIME_PATTERN)
    """Time from the start of the command by which the run saves and ends, as Slurm writes it:
    minutes, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`. The limit of a Slurm job is
    respected without this setting."""

    @property
    def time_limit_seconds(self) -> int | None:
        """The time limit in seconds."""
        if self.time_limit is None:
            return None
        return seconds_of_slurm_time(self.time_limit)


class Executor(Section):
    kind: Literal["local", "slurm"] = "local"
    """`local`: worker processes on this machine. `slurm`: inside an srun step, the tasks of that
    step; elsewhere, jobs that this command submits to Slurm."""
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Worker processes for `prepare`, `tokenize` and `pack`; 1 works in this process.

    `auto`: threads of this process for little work, else one process per available core; inside an
    srun step, two less than its tasks. For submitted jobs a number is required.
    """
    workers_per_job: int = Field(default=1, ge=1)
    """Submitted jobs only: worker processes in each job, one core each."""
    memory_per_worker: ByteCount = Field(default=4_000_000_000, ge=10**9)
    """Submitted jobs only: memory of each worker process. A worker needs 1 GB plus 6 times the size
    of the largest document that it processes, in `annotate` 40 times."""
    partition: str | None = None
    """Submitted jobs only: Slurm partition. Default: that of the cluster."""
    account: str | None = None
    """Submitted jobs only: Slurm account to charge."""
    time_limit: SlurmTime = "12:00:00"
    """Submitted jobs only: time limit of each job, as sbatch takes it. A job that reaches it is
    replaced by a new one."""
    job_options: tuple[str, ...] = ()
    """Submitted jobs only: further options of sbatch, for example `--qos=long`."""

    @property
    def uses_slurm(self) -> bool:
        """Whether Slurm starts the worker processes."""
        return self.kind == "slurm"


SPARE_SECONDS = 30.0
"""Time for launcher and ranks to end, in addition to two steps and two saves."""


def job_margin_seconds(step: float, validation: float, save: float) -> float:
    """Return the seconds before a job's end at which training stops for a last save.

    Twice the longest step, validation and save, and SPARE_SECONDS.
    """
    return SPARE_SECONDS + 2 * (step + validation + save)
