"""What Slurm knows about jobs: queued, running or ended, and why. Sends and changes nothing.

Asks `scontrol`, which forgets a job some minutes after its end, then `sacct` where it is set up.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

ANSWER_SECONDS = 30.0
"""Time after which a controller counts as out of reach."""
NOT_ENDED = {
    *("PENDING", "CONFIGURING", "RUNNING", "RESIZING", "SUSPENDED", "STOPPED", "SIGNALING"),
    *("COMPLETING", "STAGE_OUT", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"),
}
"""States of a job that may still run (squeue's manual, JOB STATE CODES)."""
OUT_OF_TIME_CODE = 75
"""Exit code of a command that was stopped after saving (`Interrupted.exit_code`)."""
SACCT_FIELDS = "JobIDRaw,State,ExitCode,Start,NodeList"


@dataclass(frozen=True)
class JobState:
    """What Slurm knows about one job."""

    state: str
    """Slurm's word, for example `RUNNING`."""
    reason: str = ""
    """Why it waits, in Slurm's words; empty where there is none."""
    exit_code: int = 0
    """Exit code of the batch script; of an ended job."""
    start: str = ""
    """When it started, or is expected to, `2000-01-31T23:59:59`; empty where that is not known."""
    nodes: str = ""
    """Slurm's list of the nodes; empty where there are none yet."""
    requeues: int = 0
    """How often the job went back into the queue."""

    @property
    def has_ended(self) -> bool:
        """Whether the job will not run any more."""
        return self.state not in NOT_ENDED

    def in_words(self) -> str:
        """Return the state for people: queued and why, running, or ended and why."""
        if self.state == "PENDING":
            queued = "queued again" if self.requeues else "queued"
            return f"{queued} ({self.reason or 'no reason given'})"
        if self.state == "FAILED":
            if self.exit_code == OUT_OF_TIME_CODE:
                return f"stopped after saving (exit code {OUT_OF_TIME_CODE})"
            return f"failed with exit code {self.exit_code}"
        if self.state == "CANCELLED" and self.reason.startswith("Dependency"):
            return "cancelled: its dependency failed"
        return WORDS.get(self.state, self.state.lower().replace("_", " "))


WORDS = {
    "COMPLETED": "done",
    "TIMEOUT": "ended by the time limit",
    "NODE_FAIL": "ended by a node failure",
    "BOOT_FAIL": "ended by a node failure",
    "OUT_OF_MEMORY": "ended for want of memory",
    "COMPLETING": "ending",
}
"""State -> what it is called here, where that is not Slurm's own word."""


def has_slurm() -> bool:
    """Tell whether jobs can be sent and asked about from this machine."""
    return shutil.which("sbatch") is not None and shutil.which("scontrol") is not None


def states_of_jobs(ids: Sequence[str]) -> dict[str, JobState]:
    """Return what Slurm knows about jobs; those that it does not know are left out."""
    states: dict[str, JobState] = {}
    if not has_slurm():
        return states
    for job in ids:
        shown = _output("scontrol", "--oneliner", "show", "job", job)
        state = read_scontrol(shown)
        if state is not None:
            states[job] = state
    forgotten = [job for job in ids if job not in states]
    if forgotten and shutil.which("sacct"):
        options = ["--duplicates", "--allocations", "--parsable2", "--noheader"]
        named = [f"--jobs={','.join(forgotten)}", f"--format={SACCT_FIELDS}"]
        states |= read_sacct(_output("sacct", *options, *named))
    return states


def states_of_array(job: str) -> dict[str, JobState]:
    """Return what Slurm knows about the elements of a job array, by their ids: `7_0`, `7_[3-5]`."""
    states: dict[str, JobState] = {}
    if not has_slurm():
        return states
    for line in _output("scontrol", "--oneliner", "show", "job", job).splitlines():
        state = read_scontrol(line)
        element = re.search(r"\bArrayTaskId=(\S+)", line)
        if state is not None and element is not None:
            states[f"{job}_{element.group(1)}"] = state
    return states


def _output(*command: str) -> str:
    """Return what a command prints; empty where it fails, is missing or takes too long."""
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if ended.returncode != 0:
        return ""
    return ended.stdout


def read_scontrol(line: str) -> JobState | None:
    """Return the job that `scontrol --oneliner show job` prints, None where it prints none."""
    if "JobState=" not in line:
        return None

    def value(name: str) -> str:
        found = re.search(rf"\b{name}=(\S*)", line)
        return _known(found.group(1)) if found else ""

    return JobState(
        state=value("JobState"),
        reason=value("Reason"),
        exit_code=int(value("ExitCode").partition(":")[0] or 0),
        start=value("StartTime"),
        nodes=value("NodeList"),
        requeues=int(value("Restarts") or 0),
    )


def read_sacct(text: str) -> dict[str, JobState]:
    """Return the jobs that `sacct --parsable2 --duplicates` prints as SACCT_FIELDS, by id.

    A job has a line for each time that it ran, the last one last.
    """
    states: dict[str, JobState] = {}
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != len(SACCT_FIELDS.split(",")):
            continue
        job, state, exit_code, start, nodes = fields
        before = states.get(job)
        states[job] = JobState(
            # `CANCELLED by 1000` names the user.
            state=state.split()[0],
            exit_code=int(exit_code.partition(":")[0] or 0),
            start=_known(start),
            nodes=_known(nodes),
            requeues=0 if before is None else before.requeues + 1,
        )
    return states


def _known(value: str) -> str:
    """Return a value of Slurm, empty where it is one of its words for nothing."""
    if value in ("None", "(null)", "Unknown", "N/A", "None assigned"):
        return ""
    return value
