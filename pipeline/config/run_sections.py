"""The sections of a run file that say how safely it runs, and where: checkpoints, guards, launch,
workers."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline.config.kinds import LAUNCH_KINDS, KindName
from pipeline.config.values import ByteCount, Location, Section

Minutes = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A time as Slurm writes it; minutes alone may also be a YAML number."""


class Checkpoint(Section):
    save_every_steps: int = Field(default=500, ge=1)
    """Steps between checkpoints; one is also written at the end and when stopped by a signal."""
    keep_last: int = Field(default=3, ge=1)
    """Newest checkpoints kept in the run folder; older ones are deleted after a newer one is
    complete."""
    keep_every_steps: int | None = Field(default=None, ge=1)
    """Checkpoints at multiples of so many steps are also made, and stay, unless the run goes back
    behind them."""
    keep_log_spaced: bool = False
    """Checkpoints at steps 1, 2, 4, 8, ... are also made, and kept as those: for studies of how a
    model learns."""
    asynchronous: bool = True
    """Training goes on while a checkpoint is written from a copy in host memory. `false`: it waits,
    and needs no copy."""
    verify: Literal["checksums", "sizes"] = "checksums"
    """What of a checkpoint's files is compared with its manifest before it is loaded."""


class Guard(Section):
    max_restarts: int = Field(default=3, ge=0)
    """Times that ranks which died or hang are started again without a new checkpoint in between.
    Those that refuse, or all end in one place before their first step with an error that would come
    again, are not."""
    stall_seconds: float | None = Field(default=None, gt=0)
    """Seconds without progress on any rank after which they count as hung. Default: 20 median
    steps, at least 60 s."""
    start_up_seconds: float = Field(default=1800, gt=0)
    """The same before the first step, which may have to wait for file systems and compilers."""
    max_skipped_updates: int = Field(default=3, ge=0)
    """Steps in a row whose update is skipped because loss or gradient is not finite; one more, and
    the run goes back."""
    spike_deviations: float | None = Field(default=20, gt=0)
    """Robust standard deviations above the median of the last losses from which a loss is a spike:
    the run goes back to the newest checkpoint before the suspected steps and leaves out their
    samples. None: never."""
    spike_window_steps: int = Field(default=100, ge=8)
    """Steps that the median is taken over; before there are so many, and where mixture, batch or
    length change or a branch begins, nothing is a spike."""
    spike_skipped_steps: int = Field(default=2, ge=1)
    """Steps whose samples are skipped, up to that of the spike: the one before made the weights
    that it shows."""
    max_rollbacks: int = Field(default=5, ge=0)
    """Times that a run goes back before it is ended with a message."""


class Launch(Section):
    kind: Annotated[str, KindName(LAUNCH_KINDS)] = "local"
    """`local`: the deepspeed launcher on this machine. `slurm`: `srun` inside the job's allocation.
    `hostfile`: the deepspeed launcher on the hosts of `hostfile`, by pdsh and ssh; all of them see
    the run's folders at the same paths."""
    hostfile: Location | None = None
    """`hostfile` only: lines `HOST slots=N`, N ranks on each. This machine is the first one, or
    reaches it."""
    ranks: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """`auto`: every GPU, else 2 CPU ranks, as many as divide the batch. Elsewhere the allocation's
    tasks, the hosts' slots."""
    master_port: int = Field(default=0, ge=0, lt=65536)
    """TCP port where ranks meet; 0 takes a free one."""
    time_limit: Minutes | None = Field(
        default=None, pattern=r"^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})$"
    )
    """Time from the start of the command by which the run has saved and ended, as Slurm writes it:
    minutes, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`. A Slurm job's own limit is known
    without it."""

    @property
    def time_limit_seconds(self) -> int | None:
        """The time limit in seconds."""
        if self.time_limit is None:
            return None
        days, _, rest = self.time_limit.rpartition("-")
        parts = [int(part) for part in rest.split(":")]
        if days:
            hours, minutes, seconds = (*parts, 0, 0)[:3]
        else:
            hours, minutes, seconds = (0, *parts, 0)[:3] if len(parts) < 3 else parts
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


class Executor(Section):
    kind: Literal["local", "slurm"] = "local"
    """`local`: this machine. `slurm`: the tasks of the srun step this runs in, else jobs sent to
    Slurm from here."""
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Worker processes for `prepare`, `tokenize` and `pack`; 1 works in this process.

    `auto`: threads of this process for small work, else one process per core that it may use. In an
    srun step its tasks less two; for jobs sent to Slurm a number is required.
    """
    workers_per_job: int = Field(default=1, ge=1)
    """Jobs sent to Slurm: worker processes in each, one core each."""
    memory_per_worker: ByteCount = Field(default=4_000_000_000, ge=10**9)
    """Jobs sent to Slurm: bytes of memory per worker. One needs 1 GB and 6 times its largest
    document."""
    partition: str | None = None
    """Jobs sent to Slurm: partition; default: the cluster's."""
    account: str | None = None
    """Jobs sent to Slurm: account to charge."""
    time_limit: Minutes = "12:00:00"
    """Jobs sent to Slurm: time limit of each, as sbatch takes it; another job follows one that
    ended at it."""
    job_options: tuple[str, ...] = ()
    """Jobs sent to Slurm: further options of sbatch, for example `--qos=long`."""
