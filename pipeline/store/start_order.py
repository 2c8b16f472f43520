"""What the supervisor sends to the ranks: its identity, the current start, whether to stop.

The identity is an environment variable. The rest is the JSON file `RunFolder.start`, which all
ranks on all machines watch.
"""

import json
from pathlib import Path
from typing import TypedDict

from pipeline.store.environment import user_variable
from pipeline.store.files import write_json
from pipeline.store.layout import RunFolder
from pipeline.store.processes import ProcessIdentity
from pipeline.store.records import Json

SUPERVISOR_VARIABLE = "PIPELINE_SUPERVISOR"
"""Environment variable that holds the supervisor's identity, JSON."""


class Supervisor(ProcessIdentity):
    """The process that has started the ranks."""

    times: list[float]
    """Times at which the command, the stage and the launcher began, in seconds of the epoch."""
    start: str
    """Random name of this start of the ranks."""


class StartOrder(TypedDict):
    """Content of `RunFolder.start`."""

    start: str
    """Name of the current start; ranks of any other start end."""
    stop: bool
    """Whether the ranks must save and end."""


class StartOrderUnclear(Exception):
    """The start order cannot be read now, or is damaged; the ranks ignore it."""


def write_start_order(run_dir: Path, order: StartOrder) -> None:
    """Write the start order for all ranks."""
    write_json(RunFolder(run_dir).start, order)


def read_start_order(run_dir: Path) -> StartOrder | None:
    """Return the start order, None where there is no file.

    Raises StartOrderUnclear where the file cannot be read or is damaged.
    """
    try:
        order: dict[str, Json] | None = json.loads(RunFolder(run_dir).start.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StartOrderUnclear(str(error)) from None
    if not isinstance(order, dict):
        raise StartOrderUnclear("is not a JSON object")
    start = order.get("start")
    if not isinstance(start, str):
        raise StartOrderUnclear("its `start` is missing or not text")
    stop = order.get("stop", False)
    if not isinstance(stop, bool):
        raise StartOrderUnclear(f"stop is {stop!r}")
    return {"start": start, "stop": stop}


def remove_start_order(run_dir: Path) -> None:
    """Delete the start order: ranks of every start end when they see that it is gone."""
    RunFolder(run_dir).start.unlink(missing_ok=True)


def supervisor_of_this_rank() -> Supervisor | None:
    """Return the supervisor that has started this rank; None without one, as in tests."""
    text = user_variable(SUPERVISOR_VARIABLE)
    if text is None:
        return None
    return json.loads(text)
