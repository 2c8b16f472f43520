"""A real Slurm on this machine, for tests: one controller, some node daemons, munge; no system
services touched.

Needs root and the Debian packages slurmctld, slurmd, slurm-client and munge.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo")
CONTROLLER_PORT = 16817
FIRST_NODE_PORT = 17001
"""Both outside `pipeline.cluster.ports`."""

CONFIG = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=10
SlurmdTimeout={node_seconds}
MessageTimeout=60
MinJobAge=86400
"""
"""Ended jobs are forgotten after a day: tests count them, on a busy machine after many minutes."""


@contextmanager
def one_host_slurm(folder: Path, nodes: int, node_seconds: int = 20) -> Iterator[dict[str, str]]:
    """Start it, yield the environment for its commands, and end it again by its own process ids.

    `node_seconds`: a node that does not answer for so long is down, and its jobs have failed.
    """
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    assert not missing, (
        f"Slurm is not installed: {missing}. Debian: apt install slurmctld slurmd slurm-client "
        "munge"
    )
    for name in ["state", *(f"spool/n{i}" for i in range(1, nodes + 1))]:
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    lines = [CONFIG.format(folder=folder, port=CONTROLLER_PORT, node_seconds=node_seconds)]
    for i in range(1, nodes + 1):
        lines.append(
            f"NodeName=n{i} NodeHostname=localhost NodeAddr=127.0.0.1 Port={FIRST_NODE_PORT + i} "
            "CPUs=4 RealMemory=8000\n"
        )
    lines.append(f"PartitionName=main Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP\n")
    config = folder / "slurm.conf"
    config.write_text("".join(lines))
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    environment = {**os.environ, "SLURM_CONF": str(config)}
    try:
        files = {
            "key-file": "munge.key",
            "socket": "munge.sock",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
        }
        options = [f"--{option}={folder / file}" for option, file in files.items()]
        subprocess.run(
            ["munged", "--force", *options, f"--seed-file={folder / 'munged.seed'}"], check=True
        )
        subprocess.run(["slurmctld", "-f", config], check=True, env=environment)
        for i in range(1, nodes + 1):
            start_node(environment, i)
        _wait_until_idle(environment, nodes)
        yield environment
    finally:
        subprocess.run(["scancel", "--full", "--user=root"], env=environment, timeout=20)
        files = [*folder.glob("slurmd-*.pid"), folder / "slurmctld.pid", folder / "munged.pid"]
        daemons = [psutil.Process(int(file.read_text())) for file in files if file.exists()]
        for daemon in daemons:
            daemon.terminate()
        _, alive = psutil.wait_procs(daemons, timeout=15)
        for daemon in alive:
            daemon.kill()


def start_node(environment: dict[str, str], number: int) -> None:
    """Start a node's daemon, also one that was killed."""
    subprocess.run(
        ["slurmd", "-N", f"n{number}", "-f", environment["SLURM_CONF"]], check=True, env=environment
    )


def kill_node(environment: dict[str, str], number: int) -> None:
    """Kill a node's daemon and all that runs on it, as a power failure would."""
    killed = {int((Path(environment["SLURM_CONF"]).parent / f"slurmd-n{number}.pid").read_text())}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("SLURMD_NODENAME") == f"n{number}":
                killed |= {
                    process.pid,
                    *(p.pid for p in process.parents() if p.name() == "slurmstepd"),
                }
    for pid in killed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait_until_idle(environment: dict[str, str], nodes: int) -> None:
    for _ in range(200):
        shown = subprocess.run(
            ["sinfo", "-h", "-o", "%D", "-t", "idle"],
            capture_output=True,
            text=True,
            env=environment,
        )
        if sum(map(int, shown.stdout.split())) == nodes:
            return
        time.sleep(0.1)
    raise AssertionError("the nodes did not become idle within 20 s")


def job_state(environment: dict[str, str], job: str) -> str:
    """Return a job's state, for example `RUNNING`."""
    shown = subprocess.run(
        ["scontrol", "show", "job", job],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return shown.stdout.split("JobState=")[1].split()[0]


def wait_for(condition: Callable[[], bool], seconds: float, outputs: Path) -> None:
    """Wait; when it takes too long, fail with the ends of the job outputs (a file, or a folder of
    slurm-*.out)."""
    deadline = time.monotonic() + seconds
    while not condition():
        logs = [
            p.read_text(errors="replace")[-2000:]
            for p in ([outputs] if outputs.is_file() else outputs.glob("slurm-*.out"))
        ]
        assert time.monotonic() < deadline, logs
        time.sleep(0.5)
