"""One rank of a training job: `python -m pipeline.training.worker RUN.YAML`, started by a launcher.

Reads the resolved run file that the supervisor wrote. Writes checkpoints, metrics, events, the
rank's log, and an outcome that tells the supervisor how the job ended. Heavy imports happen after
the log is open.
"""

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

from pipeline.config.run_file import load
from pipeline.engine import extensions
from pipeline.errors import UserError
from pipeline.store.environment import user_variable
from pipeline.store.files import FILE_MODE
from pipeline.store.heartbeat import Heartbeat, write_stacks_on_request
from pipeline.store.layout import run_folder
from pipeline.store.outcome import Outcome, write_outcome
from pipeline.store.rank_environment import (
    adopt_slurm_environment,
    groups_of_this_process,
    is_first_on_its_machine,
)
from pipeline.store.start_order import supervisor_of_this_rank
from pipeline.training.stop import POLL_SECONDS, StopSignal, end_older_starts, watch_supervisor


def main() -> None:
    """Run this rank to its end.

    The exit code is 0 unless there is a bug: on another code, launchers kill the other ranks.
    """
    # Set the environment before any library reads it.
    stop = StopSignal()
    extensions.use_operator_folder()
    adopt_slurm_environment()
    adopt_visible_devices()

    # Open the rank's log before anything can fail.
    run_file = Path(sys.argv[-1])
    config = load(run_file)
    rank = groups_of_this_process().world_rank
    _redirect_output(run_folder(config).rank_log(rank))
    write_stacks_on_request(config.paths.run_dir, rank, POLL_SECONDS)

    # End this rank when its supervisor ends; end ranks of earlier starts now.
    supervisor = supervisor_of_this_rank()
    assert supervisor is not None, "a launcher of the supervisor has started this rank"
    if is_first_on_its_machine():
        end_older_starts(run_file, supervisor["start"])
    watch_supervisor(supervisor, config.paths.run_dir, stop)

    # Train. Torch and DeepSpeed are imported only here.
    try:
        import_module("pipeline.model.lean_transformers")
        from pipeline.training.job import run_job

        outcome: Outcome = run_job(config, stop, Heartbeat(config.paths.run_dir, rank))
    except UserError as error:
        outcome = {"status": "refused", "message": str(error)}
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # a rank stuck in a collective must not keep this one alive

    # The supervisor reads one outcome: rank 0's, or a refusal, which any rank may write.
    if rank == 0 or outcome["status"] == "refused":
        write_outcome(config.paths.run_dir, outcome)
    _end_together()


def adopt_visible_devices() -> None:
    """Restore the command's own CUDA_VISIBLE_DEVICES, since the launcher numbers GPUs from 0."""
    names = user_variable("PIPELINE_VISIBLE_DEVICES")
    if names is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = names


def _redirect_output(path: Path) -> None:
    """Send the output of this process and its libraries to the rank's log.

    Only the supervisor writes to the screen.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _end_together() -> None:
    """Leave the process groups, then end this process with exit code 0."""
    from pipeline.engine.groups import leave_process_groups

    sys.stdout.flush()
    sys.stderr.flush()
    leave_process_groups()
    os._exit(0)  # DeepSpeed's and gloo's threads may outlive the interpreter's shutdown


if __name__ == "__main__":
    main()
