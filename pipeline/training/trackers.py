"""Copies figures to TensorBoard and W&B through accelerate's trackers, from one process alone.

These are each step's metrics, from rank 0, and scores of checkpoints, from the process that makes
them. Writes TensorBoard's and W&B's files into the run folder. They only repeat metrics.jsonl and
scores.jsonl: no work ends because a tracker fails. Free of torch until a tracker is opened.
"""

import importlib.util
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.store.events import write_event
from pipeline.store.files import write_atomic
from pipeline.store.layout import run_folder
from pipeline.store.metrics import StepRecord


def check_trackers(config: RunConfig) -> None:
    """Raise ConfigError where the library of a tracker is not installed; imports nothing."""
    missing = [name for name in config.logging.trackers if not _is_installed(name)]
    if missing:
        raise ConfigError(
            [
                f"logging.trackers = {list(config.logging.trackers)}: {' and '.join(missing)} not "
                "installed; `pip install -c constraints.txt -e '.[trackers]'`, or leave it out"
            ]
        )


def _is_installed(library: str) -> bool:
    # A mere folder of that name, such as W&B makes, has no origin.
    spec = importlib.util.find_spec(library)
    return spec is not None and spec.origin is not None


class Trackers:
    """The trackers that `logging.trackers` names.

    A tracker that fails is reported once and gets no more figures.
    """

    def __init__(self, config: RunConfig, completed_steps: int | None, rank: int = 0) -> None:
        """Open the trackers for the steps after `completed_steps`, on rank 0 alone.

        The process group of ranks has to exist. None: for the scores of checkpoints, which are
        files, and in W&B a run, of their own.
        """
        self._run_dir = config.paths.run_dir
        self._open: dict[str, Any] = {}
        if rank != 0:
            return
        for name in config.logging.trackers:
            self._try(name, lambda name=name: self._open_tracker(name, config, completed_steps))

    def _open_tracker(self, name: str, config: RunConfig, completed_steps: int | None) -> None:
        self._open[name] = OPENERS[name](config, completed_steps)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_: object) -> None:
        """Have each tracker write what it still holds, however training ended."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.finish)

    def write(self, record: StepRecord) -> None:
        """Give one step's record of metrics.jsonl to every tracker."""
        if self._open:
            self.log(flatten_figures(record), record["step"])

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Give figures of a step to every tracker."""
        for name, tracker in list(self._open.items()):
            self._try(name, lambda tracker=tracker: tracker.log(figures, step=step))

    def _try(self, name: str, action: Callable[[], Any]) -> None:
        """Run an action of a tracker; on any failure report and drop the tracker, not the run."""
        try:
            action()
        except Exception as error:
            self._open.pop(name, None)
            logging.getLogger(__name__).warning(
                "%s failed and gets no more figures: %r", name, error
            )
            write_event(self._run_dir, "tracker failed", tracker=name, error=repr(error))


def flatten_figures(record: StepRecord) -> dict[str, float]:
    """Return a record's numbers without its step; a mapping's numbers are named `name/key`."""
    flat: dict[str, float] = {}
    for name, value in record.items():
        if name == "step":
            continue
        figures = {name: value}
        if isinstance(value, dict):
            figures = {f"{name}/{key}": figure for key, figure in value.items()}
        for full_name, figure in figures.items():
            if isinstance(figure, (int, float)):
                flat[full_name] = figure
    return flat


def _open_tensorboard(config: RunConfig, completed_steps: int | None) -> Any:
    from accelerate.tracking import TensorBoardTracker

    _accelerate_state()
    # Steps from `purge_step` on are trained again after a crash: readers drop their older figures.
    folder = run_folder(config).tensorboard
    purge_step = None
    if completed_steps is None:
        folder = run_folder(config).tensorboard_of_scores
    else:
        purge_step = completed_steps + 1
    tracker = TensorBoardTracker(folder.name, folder.parent, purge_step=purge_step)
    tracker.start()
    return tracker


def _open_wandb(config: RunConfig, completed_steps: int | None) -> Any:
    from accelerate.tracking import WandBTracker

    _accelerate_state()
    run = run_folder(config)
    id_file = run.wandb_run_id
    name = run.name
    if completed_steps is None:  # two processes cannot write one run of W&B
        id_file = run.wandb_id_of_scores
        name = f"{name} scores"
    tracker = WandBTracker(
        config.logging.project,
        id=_run_id(id_file),
        name=name,
        dir=str(run.path),
        mode=config.logging.wandb_mode,
        resume="allow",
        settings={"console": "off"},  # the rank's output is in its own log
    )
    tracker.start()
    tracker.store_init_configuration(config.model_dump(mode="json"))
    return tracker


def _accelerate_state() -> None:
    """Have accelerate use the process group, if there is one; its trackers take the rank from there."""
    from accelerate import PartialState

    PartialState()


def _run_id(path: Path) -> str:
    """Return the run's id in W&B; choose and write one at the first start."""
    if not path.exists():
        import uuid

        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, uuid.uuid4().hex[:12])
    return path.read_text()


OPENERS: dict[str, Callable[[RunConfig, int | None], Any]] = {
    "tensorboard": _open_tensorboard,
    "wandb": _open_wandb,
}
"""Name in `logging.trackers` -> function that opens the tracker after some completed steps, or for scores."""
