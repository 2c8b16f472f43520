"""Run a training job on real ranks without paying the imports for each: ranks are forked from one
warm process."""

import json
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from forks import exit_codes, start_call

from pipeline.cluster.ports import free_port
from pipeline.config.run_config import RunConfig
from pipeline.engine import extensions
from pipeline.engine.capacity import cpu_has_fp16
from pipeline.store.rank_environment import environment_of_rank

os.environ.setdefault("DS_ACCELERATOR", "cpu")
extensions.use_operator_folder()

SECONDS = 1200
"""For a job that hangs. Its first one on a machine also compiles."""
NEEDS_FP16 = pytest.mark.skipif(
    not cpu_has_fp16(), reason="this machine's CPU does not compute in fp16"
)

Work = Callable[[RunConfig], dict[str, Any]]


def run_ranks(run_file: Path, ranks: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run a job as `ranks` gloo ranks and return rank 0's outcome; a refusal comes back as its
    message."""
    return _run(run_file, ranks, overrides, _job)


def in_ranks(
    run_file: Path, ranks: int, work: Work, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Call a function of a test module as each of a job's ranks would be, and return rank 0's JSON
    value."""
    return _run(run_file, ranks, overrides, work)


def _job(config: RunConfig) -> dict[str, Any]:
    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    return run_job(config, StopSignal())


def _run(run_file: Path, ranks: int, overrides: Sequence[str], work: Work) -> dict[str, Any]:
    port = free_port()
    outcome = run_file.with_name(f"outcome-{port}.json")
    logs = [run_file.parent / f"rank-{rank}-{port}.log" for rank in range(ranks)]
    programs = [
        start_call(_rank, run_file, list(overrides), rank, ranks, port, outcome, work, log=log)
        for rank, log in enumerate(logs)
    ]
    codes = exit_codes(programs, SECONDS)
    printed = "".join(log.read_text() for log in logs)
    assert codes == [0] * ranks, f"ranks ended with {codes}:\n{printed[-6000:]}"
    return json.loads(outcome.read_text())


def _rank(
    run_file: Path,
    overrides: list[str],
    rank: int,
    ranks: int,
    port: int,
    outcome: Path,
    work: Work,
) -> None:
    os.environ.update(environment_of_rank(rank, ranks, port))
    code = 1
    try:
        import torch

        torch.set_num_threads(1)
        from pipeline.config.run_file import load
        from pipeline.errors import UserError

        try:
            result = work(load(run_file, overrides))
        except UserError as error:
            print(error, flush=True)  # into the rank's log: all ranks refuse, and with one message
            result = {"status": "refused", "message": str(error)}
        if rank == 0:
            outcome.write_text(json.dumps(result))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
