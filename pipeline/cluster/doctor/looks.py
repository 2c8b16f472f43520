"""What one node can be seen to have without torch: packages, limits, memory, folders, ports.

Each function is one look. `Looks` runs them, with a time limit for each: a network file system that
has failed can hold a process for ever.
"""

import importlib.metadata
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pipeline.cluster.ports import SHARED_MEMORY
from pipeline.errors import one_line
from pipeline.store.files import fingerprint
from pipeline.store.layout import doctor_probe
from pipeline.work.network_links import INFINIBAND, links_in_words, network_links
from pipeline.work.node_reports import NodeQuestion

ResultT = TypeVar("ResultT")

LOOK_SECONDS = 20.0
"""Time limit of one look."""
PROBE_SECONDS = 10.0
"""Time to wait for the probe files of other nodes, all of which exist before the first look.

A name that was looked for in vain stays unknown to an NFS client for up to 30 s (nfs(5), acdirmin),
so nobody looks earlier.
"""
PROBE_PAUSE_SECONDS = 0.5
LARGEST_LISTING = 10_000
"""Files of a folder that are compared between nodes, the first ones in sorted order."""
LIMITS = {
    "open files": resource.RLIMIT_NOFILE,
    "locked memory": resource.RLIMIT_MEMLOCK,
    "processes": resource.RLIMIT_NPROC,
}


class Looks:
    """Runs looks one after another; keeps seconds and failures by name."""

    def __init__(self, limit: float = LOOK_SECONDS) -> None:
        """Take the seconds that each look may take."""
        self._limit = limit
        self.seconds: dict[str, float] = {}
        self.problems: dict[str, str] = {}

    def run(self, name: str, look: Callable[[], ResultT], neutral: ResultT) -> ResultT:
        """Return what a look sees; `neutral` where it fails or does not end in time."""
        results: list[ResultT] = []

        def keep_result() -> None:
            try:
                results.append(look())
            except Exception as error:
                self.problems[name] = f"{type(error).__name__}: {one_line(error)}"

        # The thread is abandoned after the limit: a thread in the kernel cannot be ended.
        started = time.monotonic()
        thread = threading.Thread(target=keep_result, daemon=True)
        thread.start()
        thread.join(self._limit)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
        if results:
            return results[0]
        self.problems.setdefault(name, f"no answer within {self._limit:.0f} s")
        return neutral


def installed_packages() -> dict[str, str]:
    """Return installed package -> version, names in lower case."""
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            versions.setdefault(name.lower().replace("_", "-"), distribution.version)
    return versions


def code_fingerprint() -> str:
    """Return the fingerprint of the source files of this package."""
    root = Path(__file__).parents[2]
    files = sorted(root.rglob("*.py"))
    return fingerprint([[str(file.relative_to(root)), file.read_text()] for file in files])


def process_limits() -> dict[str, int | None]:
    """Return the limits of a process that are in force now (`ulimit -S`); None: unlimited."""
    limits: dict[str, int | None] = {}
    for name, number in LIMITS.items():
        value = resource.getrlimit(number)[0]
        limits[name] = value
        if value == resource.RLIM_INFINITY:
            limits[name] = None
    return limits


def has_infiniband() -> bool:
    """Tell whether this machine has an InfiniBand or RoCE device."""
    return INFINIBAND.is_dir() and any(INFINIBAND.iterdir())


def network_in_words() -> str:
    """Return the links of this machine to others, with their rates on paper."""
    return links_in_words(network_links())


def shared_memory_bytes() -> int:
    """Return the free bytes of /dev/shm; 0 where this process cannot write there."""
    if not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return 0
    return shutil.disk_usage(SHARED_MEMORY).free


def temporary_bytes() -> int:
    """Return the free bytes on the disk of temporary files."""
    return shutil.disk_usage(tempfile.gettempdir()).free


def compiler_path() -> str:
    """Return the path of the C++ compiler that torch would call, empty where there is none.

    Source: torch 2.13, utils/cpp_extension.py: $CXX, else c++.
    """
    return shutil.which(os.environ.get("CXX", "c++")) or ""


def listing_fingerprint(folder: str) -> str:
    """Return the fingerprint of the names and sizes of the files below a folder.

    Without hidden files, which programs make while they run. Empty where there is no folder.
    """
    if not Path(folder).is_dir():
        return ""
    entries: list[list[str | int]] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            path = Path(place) / name
            # A file may be gone again.
            with suppress(FileNotFoundError):
                entries.append([str(path.relative_to(folder)), path.stat().st_size])
            if len(entries) >= LARGEST_LISTING:
                return fingerprint(entries)
    return fingerprint(entries)


def write_probe(folder: str, question: NodeQuestion) -> str:
    """Write this node's probe file into a folder; return why that is impossible, else an empty text."""
    path = doctor_probe(Path(folder), question["token"], question["node"])
    try:
        path.write_text(question["node"])
    except OSError as error:
        return error.strerror or str(error)
    return ""


def seen_probes(
    folder: str, token: str, nodes: Sequence[str], seconds: float = PROBE_SECONDS
) -> list[str]:
    """Return the nodes whose probe file is in a folder; waits until all are there, or `seconds`."""
    until = time.monotonic() + seconds
    while True:
        seen = [name for name in nodes if _has_probe(folder, token, name)]
        if len(seen) == len(nodes) or time.monotonic() > until:
            return seen
        time.sleep(PROBE_PAUSE_SECONDS)


def _has_probe(folder: str, token: str, node: str) -> bool:
    try:
        return doctor_probe(Path(folder), token, node).read_text() == node
    except OSError:
        return False


def remove_probes(question: NodeQuestion) -> None:
    """Remove this node's probe files."""
    for folder in question["folders"].values():
        with suppress(OSError):
            doctor_probe(Path(folder), question["token"], question["node"]).unlink()
