"""Each step's figures in TensorBoard and W&B, through accelerate's trackers; written by rank 0
alone.

Writes TensorBoard's files and those of W&B into the run folder. They are a copy of metrics.jsonl for other eyes:
training never ends because one of them fails. Free of torch until a tracker is opened.
"""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.store.events import write_event
from pipeline.store.files import write_atomic
from pipeline.store.layout import run_folder
from pipeline.store.metrics import StepRecord


def check_trackers(config: RunConfig) -> None:
    """Raise ConfigError for a tracker whose library is not installed; nothing is imported."""
    missing = [name for name in config.logging.trackers if not _is_installed(name)]
    if missing:
        raise ConfigError(
            [
                f"logging.trackers = {list(config.logging.trackers)}: {' and '.join(missing)} not "
                "installed; "
                "`pip install -c constraints.txt -e '.[trackers]'`, or leave it out"
            ]
        )


def _is_installed(library: str) -> bool:
    found = importlib.util.find_spec(library)
    return (
        found is not None and found.origin is not None
    )  # a mere folder of that name, as W&B makes, has no origin


class Trackers:
    """The trackers that `logging.trackers` names. One that fails is reported once and gets no more
    figures."""

    def __init__(self, config: RunConfig, completed_steps: int, rank: int) -> None:
        """Open them for the steps after `completed_steps`, none but on rank 0; the process group
        exists already."""
        self._run_dir = config.paths.run_dir
        self._open: dict[str, Any] = {}
        for name in config.logging.trackers if rank == 0 else ():
            make = _tensorboard if name == "tensorboard" else _wandb
            self._try(
                name,
                lambda name=name, make=make: self._open.update(
                    {name: make(config, completed_steps)}
                ),
            )

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_: object) -> None:
        """Have each write what it still holds, however training ended."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.finish)

    def write(self, record: StepRecord) -> None:
        """Give one step's record of metrics.jsonl to every tracker."""
        if not self._open:
            return
        figures = scalars(record)
        for name, tracker in list(self._open.items()):
            self._try(name, lambda tracker=tracker: tracker.log(figures, step=record["step"]))

    def _try(self, name: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # whatever a library or its server does: the run is worth more
            self._open.pop(name, None)
            logging.getLogger(__name__).warning(
                "%s failed and gets no more figures: %r", name, error
            )
            write_event(self._run_dir, "tracker failed", tracker=name, error=repr(error))


def scalars(record: StepRecord) -> dict[str, float]:
    """Return a record's figures, those of a mapping as `name/key`; without its step, without what
    is no number."""
    flat: dict[str, float] = {}
    for name, value in record.items():
        inner = value if isinstance(value, dict) else {None: value}
        for key, figure in inner.items():
            if isinstance(figure, (int, float)) and name != "step":
                flat[name if key is None else f"{name}/{key}"] = figure
    return flat


def _tensorboard(config: RunConfig, completed_steps: int) -> Any:
    from accelerate.tracking import TensorBoardTracker

    _accelerate_state()
    # Readers drop what earlier files say of steps from `purge_step` on: steps that were trained
    # again after a crash.
    folder = run_folder(config).tensorboard
    tracker = TensorBoardTracker(folder.name, folder.parent, purge_step=completed_steps + 1)
    tracker.start()
    return tracker


def _wandb(config: RunConfig, completed_steps: int) -> Any:
    from accelerate.tracking import WandBTracker

    _accelerate_state()
    run = run_folder(config)
    tracker = WandBTracker(
        config.logging.project,
        id=_run_id(run.wandb_run_id),
        name=run.name,
        dir=str(run.path),
        mode=config.logging.wandb_mode,
        resume="allow",
        settings={"console": "off"},  # what the rank prints has its own log
    )
    tracker.start()
    tracker.store_init_configuration(config.model_dump(mode="json"))
    return tracker


def _accelerate_state() -> None:
    """Have accelerate take over the process group that exists: its trackers ask it for the rank,
    and log through it."""
    from accelerate import PartialState

    PartialState()


def _run_id(path: Path) -> str:
    """Return the id that the run was given when it began, or give it one."""
    if not path.exists():
        import uuid

        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, uuid.uuid4().hex[:12])
    return path.read_text()
