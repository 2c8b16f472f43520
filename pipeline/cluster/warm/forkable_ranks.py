"""The fork server of one training on CPUs: its ranks are forked, so that torch is imported once.

Where ranks cannot be forked (GPUs, other hosts, libraries that start threads when they are imported),
DeepSpeed's launcher starts them, and each imports for itself.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import launch_kind, rank_environment
from pipeline.config.kinds import FORKED_LAUNCH_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.logs import note, warn
from pipeline.store.environment import user_variable
from pipeline.store.rank_environment import THREADS_VARIABLE
from pipeline.work.warm import warm_python
from pipeline.work.warm.held_python import HeldPython
from pipeline.work.warm.warm_python import WarmProcessEnded

LAUNCHER_VARIABLE = "PIPELINE_LAUNCHER"
"""Environment variable by which a user asks for DeepSpeed's launcher on CPUs as well."""
DEEPSPEED = "deepspeed"
PRELOADED = ("pipeline.model.lean_transformers", "pipeline.training.job")
"""Modules that the ranks of every run import, in this order."""
LOOK_SECONDS = 0.1
"""Time between two looks at a request to stop while modules are imported."""


class ForkableRanks:
    """Holds the fork server of a training while this context lasts, where its ranks can be forked."""

    def __init__(self, config: RunConfig) -> None:
        """Raise ConfigError where PIPELINE_LAUNCHER names no launcher."""
        self._config = config
        self._server: HeldPython | None = None
        self._is_forking = can_fork(config)
        self._has_imported = False
        self._exits = ExitStack()

    def __enter__(self) -> "ForkableRanks":
        """Start the server, which imports while its holder goes on."""
        if self._is_forking:
            self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the server, and with it whatever it has forked."""
        self._end()

    def prepare(self, is_stopped: Callable[[], bool]) -> None:
        """Wait until ranks can be forked; to be called before each start of the ranks.

        A server that was killed is started again. Returns early where the ranks are to stop. Where
        the imports fail, or take longer than `guard.start_up_seconds`, ranks are not forked.
        """
        if not self._is_forking:
            return
        # One that ends in its imports would do so again.
        server = self._server
        assert server is not None, "it is held while this context lasts"
        if self._has_imported and server.has_ended():
            note("train: the process that forks the ranks has ended; starting it again")
            self._end()
            server = self._begin()

        # Wait, but no longer than ranks may take to start.
        deadline = time.monotonic() + self._config.guard.start_up_seconds
        try:
            while not server.is_ready(LOOK_SECONDS):
                if is_stopped():
                    return
                if time.monotonic() > deadline:
                    self.give_up("the imports take longer than guard.start_up_seconds")
                    return
        except WarmProcessEnded as error:
            self.give_up(str(error))
            return
        self._has_imported = True
        warm_python.set_parent(server.python)

    def _begin(self) -> HeldPython:
        ranks = launch_kind(self._config).rank_count(self._config)
        server = HeldPython(PRELOADED, rank_environment(0, ranks))
        self._server = self._exits.enter_context(server)
        self._has_imported = False
        return server

    def _end(self) -> None:
        if self._has_imported:
            warm_python.set_parent(None)
        self._exits.close()

    def give_up(self, why: str) -> None:
        """Have DeepSpeed's launcher start the ranks from now on, and say why."""
        self._is_forking = False
        self._end()
        warn(f"train: ranks cannot be forked, so that each imports for itself: {why}")


def can_fork(config: RunConfig) -> bool:
    """Tell whether the ranks of a run can be forked from a server of this command.

    A command that was itself forked has the server that forked it.
    """
    launcher = user_variable(LAUNCHER_VARIABLE)
    if launcher not in (None, DEEPSPEED):
        raise ConfigError(
            [f"{LAUNCHER_VARIABLE} = {launcher}: must be {DEEPSPEED}, or not be set; change it"]
        )
    if launcher is not None or warm_python.parent() is not None:
        return False
    if config.launch.kind not in FORKED_LAUNCH_KINDS or gpu_count():
        return False
    # Forks take their number of threads from this variable, which may also be a list.
    threads = os.environ.get(THREADS_VARIABLE, "1")
    if not threads.isdecimal() or int(threads) == 0:
        return False
    return HeldPython.is_possible()
