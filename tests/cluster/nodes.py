"""Nodes on one machine, for tests of what crosses them: namespaces of network, mounts, names and
processes, with an sshd each.

All see the same file system. Needs root, and the Debian packages openssh-server, iproute2 and pdsh.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

PROGRAMS = ("ip", "nsenter", "pdsh", "ssh-keygen", "unshare")
SSHD = "/usr/sbin/sshd"
NETWORK = "10.99.7"
SWITCH = "pipesw"


class Nodes:
    """A context of nodes `pipe1`, `pipe2`, ..., joined by a bridge; leaving it ends all that runs
    on them."""

    def __init__(self, folder: Path, count: int) -> None:
        missing = [name for name in PROGRAMS if not shutil.which(name)] + (
            [] if Path(SSHD).exists() else ["sshd"]
        )
        assert not missing, f"missing: {missing}. Debian: apt install openssh-server iproute2 pdsh"
        assert os.geteuid() == 0, "needs root"
        self._folder, self._numbers = folder, range(1, count + 1)
        self._init: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Nodes":
        self._write_files()
        self._clear()
        _ip("netns", "add", SWITCH)
        _ip("-n", SWITCH, "link", "add", "br0", "type", "bridge")
        _ip("-n", SWITCH, "link", "set", "br0", "up")
        for number in self._numbers:
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._init):
            self.kill(number)
        self._clear()

    @property
    def hostfile(self) -> Path:
        """One rank on each node."""
        path = self._folder / "hostfile"
        path.write_text("".join(f"pipe{n} slots=1\n" for n in self._numbers))
        return path

    def start(self, number: int) -> None:
        """Start a node, also one that was killed."""
        name, outside = f"pipe{number}", f"pv{number}"
        _ip("netns", "add", name)
        card = (
            "address",
            f"02:00:00:00:00:{number:02x}",
        )  # the same one after a kill, as a real node has
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", *card, "netns", name)
        _ip("link", "set", outside, "netns", SWITCH)
        _ip("-n", SWITCH, "link", "set", outside, "master", "br0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        script = (
            f"hostname {name}; mount --bind {self._folder}/hosts /etc/hosts; mkdir -p "
            "/etc/ssh/ssh_config.d; "
            f"mount --bind {self._folder}/client /etc/ssh/ssh_config.d; mount -t tmpfs tmpfs /run; "
            "mkdir -p /run/sshd; "
            f"mount -t tmpfs tmpfs /dev/shm; exec {SSHD} -D -e -f {self._folder}/sshd_config"
        )
        command = [
            "nsenter",
            f"--net=/run/netns/{name}",
            "unshare",
            "-m",
            "-u",
            "-p",
            "--fork",
            "--mount-proc",
        ]
        with (self._folder / f"sshd{number}.log").open("wb") as log:
            self._init[number] = subprocess.Popen(
                [*command, "bash", "-c", script], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while b"listening" not in (self._folder / f"sshd{number}.log").read_bytes():
            assert time.monotonic() < deadline, f"no sshd on {name}"
            time.sleep(0.1)

    def kill(self, number: int) -> None:
        """Kill a node: with the first process of its namespace everything in it ends, and its
        network is gone."""
        with suppress(psutil.Error):
            for process in psutil.Process(self._init[number].pid).children():
                process.kill()
        self._init.pop(number).wait()
        _ip("netns", "del", f"pipe{number}")

    def set_link(self, number: int, state: str) -> None:
        """Take a node's network link `down`, or `up` again."""
        _ip("-n", f"pipe{number}", "link", "set", "eth0", state)

    def command(self, number: int, command: Sequence[str]) -> list[str]:
        """Return what runs a command on a node, in the current folder."""
        with suppress(psutil.Error, IndexError):
            first = self.first_process(number)
            here = ["bash", "-c", 'cd "$0" && exec "$@"', str(Path.cwd()), *command]
            return ["nsenter", "-t", str(first), "-n", "-m", "-u", "-p", "--", *here]
        return []

    def first_process(self, number: int) -> int:
        """Return the process id of a node's first process, above all others on it."""
        return psutil.Process(self._init[number].pid).children()[0].pid

    def _write_files(self) -> None:
        (self._folder / "client").mkdir(parents=True)
        for key in ("id", "host"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / key)],
                check=True,
            )
        shutil.copy(self._folder / "id.pub", self._folder / "authorized")
        client = (
            "StrictHostKeyChecking no",
            "UserKnownHostsFile /dev/null",
            "LogLevel ERROR",
            "ConnectTimeout 5",
        )
        lines = ["Host *", f"  IdentityFile {self._folder}/id", *(f"  {line}" for line in client)]
        (self._folder / "client" / "nodes.conf").write_text("\n".join(lines) + "\n")
        server = (
            "PermitRootLogin prohibit-password",
            "UsePAM no",
            "StrictModes no",
            "PidFile none",
            "MaxStartups 100",
        )
        keys = (f"HostKey {self._folder}/host", f"AuthorizedKeysFile {self._folder}/authorized")
        (self._folder / "sshd_config").write_text("\n".join((*keys, *server)) + "\n")
        hosts = [f"{NETWORK}.{number} pipe{number}" for number in self._numbers]
        (self._folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts]) + "\n")

    def _clear(self) -> None:
        for name in (SWITCH, *(f"pipe{number}" for number in self._numbers)):
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
