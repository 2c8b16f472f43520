"""The launcher of a training in a fork: forks the ranks, and ends them together.

    python -m pipeline.cluster.warm.rank_forks RANKS PORT MODULE RUN.YAML

A warm process runs it, so that everything is imported; elsewhere each rank would import for itself.
Does what DeepSpeed's launcher does: each rank gets its environment and arguments, and where a rank
ends with another exit code than 0, the others are killed and the launcher ends with that code.
Requests to stop are left to the ranks, which save, and to their supervisor.
"""

import os
import signal
import sys
import time

from pipeline.logs import note
from pipeline.store.rank_environment import environment_of_rank
from pipeline.work.warm import warm_python
from pipeline.work.warm.fork_server import Program, become_program, end_with_parent

LEFT_TO_RANKS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Signals that this process ignores: where it ended, its ranks would be killed."""
GRACE_SECONDS = 1.0
"""Time for the other ranks to fail as the first one did, and to say so in their logs: from these the
supervisor knows whether all ranks would fail again."""
LOOK_SECONDS = 0.02
"""Time between two looks at the other ranks."""


def main() -> None:
    """Fork the ranks, and wait for them; in a rank, run its module."""
    *numbers, module, run_file = sys.argv[1:]
    ranks, port = map(int, numbers)
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in LEFT_TO_RANKS}
    rank_of: dict[int, int] = {}
    for rank in range(ranks):
        launcher = os.getpid()
        child = os.fork()
        if child == 0:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            _run_rank(
                Program(module, [f"--local_rank={rank}", run_file]), launcher, rank, ranks, port
            )
            return
        rank_of[child] = rank
        note(f"rank {rank} is process {child}")
    sys.exit(_wait_for_all(rank_of))


def _run_rank(program: Program, launcher: int, rank: int, ranks: int, port: int) -> None:
    end_with_parent(launcher)
    warm_python.set_parent(None)
    become_program(program, {**os.environ, **environment_of_rank(rank, ranks, port)})
    program.run()


def _wait_for_all(rank_of: dict[int, int]) -> int:
    """Return the exit code of the first rank that fails, 0 where none does."""
    running = dict(rank_of)
    while running:
        child, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        rank = running.pop(child)
        if code == 0:
            continue
        note(f"rank {rank} (process {child}) ended with exit code {code}: ending the others")
        _end_others(set(running))
        return code
    return 0


def _end_others(running: set[int]) -> None:
    """Kill the processes that do not end by themselves within GRACE_SECONDS."""
    deadline = time.monotonic() + GRACE_SECONDS
    while running and time.monotonic() < deadline:
        child, _ = os.waitpid(-1, os.WNOHANG)
        running.discard(child)
        if not child:
            time.sleep(LOOK_SECONDS)
    for other in running:
        os.kill(other, signal.SIGKILL)
    for other in running:
        os.waitpid(other, 0)


if __name__ == "__main__":
    main()
