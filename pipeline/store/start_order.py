"""What the supervisor tells the ranks: who it is, which start is the present one, whether to stop.

Who it is comes in an environment variable; the rest in `RunFolder.start`, JSON, which all ranks
watch, on whichever machine.
"""

import json
import os
from pathlib import Path
from typing import TypedDict

from pipeline.store.files import write_json
from pipeline.store.layout import RunFolder
from pipeline.store.processes import ProcessIdentity

SUPERVISOR_VARIABLE = "PIPELINE_SUPERVISOR"
"""Environment variable of the ranks with the supervisor's identity as JSON."""


class Supervisor(ProcessIdentity):
    """The process that has started the ranks."""

    times: list[float]
    """When the command, the stage and the launcher began, in seconds of the epoch."""
    start: str
    """Random name of this start of the ranks."""


class StartOrder(TypedDict):
    """Content of the file."""

    start: str
    """Name of the present start of the ranks; those of other starts end."""
    stop: bool
    """Whether the ranks are to save and end."""


class StartOrderUnclear(Exception):
    """The file cannot be read now, or is damaged: nothing follows from it."""


def write_start_order(run_dir: Path, order: StartOrder) -> None:
    """Tell all ranks which start is the present one, and whether to stop."""
    write_json(RunFolder(run_dir).start, order)


def read_start_order(run_dir: Path) -> StartOrder | None:
    """Return what the ranks are told, None where there is no file. Raises StartOrderUnclear."""
    try:
        order = json.loads(RunFolder(run_dir).start.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StartOrderUnclear(str(error)) from None
    if not isinstance(order, dict) or not isinstance(order.get("start"), str):
        raise StartOrderUnclear("names no start")
    stop = order.get("stop", False)
    if not isinstance(stop, bool):
        raise StartOrderUnclear(f"stop is {stop!r}")
    return {"start": order["start"], "stop": stop}


def remove_start_order(run_dir: Path) -> None:
    """Let there be no present start: ranks on other machines end when they see it."""
    RunFolder(run_dir).start.unlink(missing_ok=True)


def supervisor_of_this_rank() -> Supervisor | None:
    """Return who has started this rank, None for a rank without a supervisor, as in tests."""
    text = os.environ.get(SUPERVISOR_VARIABLE)
    return None if text is None else json.loads(text)
