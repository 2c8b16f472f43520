"""Scores a run's checkpoints while it trains, in a process of its own.

Training never waits: only complete checkpoints are read. One that is being read is leased, so that
the run does not prune it. Reads run_dir/checkpoints; writes cells and the table of scores;
gives the scores to `logging.trackers`.
"""

import time
from pathlib import Path
from statistics import fmean

from pipeline.checkpoint.folders import complete_checkpoints
from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError, TasksFailed
from pipeline.evaluation.evaluate import (
    Questions,
    prepare_questions,
    refuse_cloze_without_text,
    score_models,
    write_suite_of,
)
from pipeline.evaluation.models_to_score import chosen_models
from pipeline.evaluation.suite_scores import stored_table
from pipeline.logs import counted_noun, note, warn
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import TrainCounts
from pipeline.store.layout import RunFolder, checkpoint_step, run_folder
from pipeline.store.lease import Lease, living_holder
from pipeline.store.records import Manifest
from pipeline.store.scores_folder import ScoresFolder
from pipeline.training.trackers import Trackers

POLL_SECONDS = 2
"""Seconds between two looks at the folder of checkpoints."""
PATIENCE_SECONDS = 600
"""Seconds without a living job after which a run counts as ended: the next job of a chain may have to
wait in the queue, and then a watch is started with it."""


def watch(config: RunConfig) -> None:
    """Score each new checkpoint of a run until the run has ended.

    Behind the run, it skips to the newest checkpoint. Raises LeaseError where another evaluation of
    the run is under way; ConfigError and DataError as `evaluate` does.
    """
    run = run_folder(config)
    refuse_cloze_without_text(config)
    with Lease(run.evaluation, "pipeline evaluate --watch"), Trackers(config, None) as trackers:
        questions = prepare_questions(config)
        note(f"evaluate: watching {run.checkpoints}")
        last_scored = 0
        last_alive = time.monotonic()
        while True:
            if living_holder(run.path) is not None:
                last_alive = time.monotonic()
            # Ask first whether the run has ended: its last checkpoint is complete by then.
            has_ended = _is_trained(run) or time.monotonic() - last_alive > PATIENCE_SECONDS
            waiting = [
                path
                for path in complete_checkpoints(run.checkpoints)
                if checkpoint_step(path) > last_scored
            ]
            if not waiting:
                if has_ended:
                    break
                time.sleep(POLL_SECONDS)
                continue
            newest = waiting[-1]
            if len(waiting) > 1:
                note(
                    f"evaluate: skipped {counted_noun(len(waiting) - 1, 'checkpoint')} before "
                    f"{newest.name}, to keep up with the run"
                )
            last_scored = checkpoint_step(newest)
            try:
                with Lease(newest, "pipeline evaluate --watch"):
                    _score_checkpoint(config, last_scored, questions, trackers)
            except (DataError, TasksFailed) as error:
                if newest.exists():
                    raise
                warn(f"{newest.name} was removed while it was read, so it has no scores ({error})")
        note("evaluate: the run has ended, all its newest checkpoints are scored")


def _score_checkpoint(
    config: RunConfig, step: int, questions: Questions, trackers: Trackers
) -> None:
    """Score one checkpoint and give its scores to the trackers."""
    models = chosen_models(config, step)
    score_models(config, models, questions)
    folder = ScoresFolder(run_folder(config).evaluation)
    write_suite_of(config, folder, models)
    figures: dict[str, list[float]] = {}
    for row in stored_table(folder):
        if row["model"] == models[0].name:
            name = f"{row['task']}/{row['metric']}/k{row['shots']}"
            figures.setdefault(name, []).append(row["value"])
    trackers.log({name: fmean(values) for name, values in figures.items()}, step)


def _is_trained(run: RunFolder) -> bool:
    """Tell whether nobody trains the run, and its last training came to its end."""
    manifest: Manifest[TrainCounts] | None = read_manifest(run.train_manifest)
    if manifest is None or living_holder(run.path) is not None:
        return False
    return _name_of_newest(run.checkpoints) == manifest["counts"]["checkpoint"]


def _name_of_newest(checkpoints: Path) -> str | None:
    complete = complete_checkpoints(checkpoints)
    if not complete:
        return None
    return complete[-1].name
