"""Scores a run's checkpoints while it trains, in a process of its own.

Training never waits: only complete checkpoints are read. One that is being read is leased, so that
the run does not prune it. Reads run_dir/checkpoints; writes cells and the table of scores;
gives the scores to `logging.trackers`.
"""

import time
from statistics import fmean

from pipeline.checkpoint.folders import complete_checkpoints
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import (
    Questions,
    prepare_questions,
    score_models,
    write_suite_of,
)
from pipeline.evaluation.models_to_score import chosen_models
from pipeline.evaluation.suite_scores import stored_table
from pipeline.evaluation.task_facts import refuse_cloze_without_text
from pipeline.evaluation.watched_run import WATCH, is_being_trained, is_trained, newest_step
from pipeline.logs import counted_noun, human_seconds, note, warn
from pipeline.store.layout import checkpoint_step, run_folder
from pipeline.store.lease import Lease
from pipeline.store.scores_folder import ScoresFolder
from pipeline.training.trackers import Trackers

POLL_SECONDS = 2
"""Seconds between two looks at the run."""
PATIENCE_SECONDS = 600
"""Seconds without training after which a watch ends that has seen the run trained: the next job of a
chain may have to wait in the queue, and then a watch is started with it."""
REMINDER_SECONDS = 300
"""Seconds between two messages that nobody has begun to train the run."""


def watch(config: RunConfig) -> None:
    """Score each new checkpoint of a run until the run has ended.

    A run that nobody trains yet is waited for. Behind the run, the watch skips to the newest
    checkpoint. Raises LeaseError where another evaluation of the run is under way; ConfigError and
    DataError as `evaluate` does.
    """
    run = run_folder(config)
    refuse_cloze_without_text(config)
    with Lease(run.evaluation, WATCH):
        training = WatchedTraining(config)
        while not training.has_begun():
            time.sleep(POLL_SECONDS)
        questions = prepare_questions(config)
        with Trackers(config, None) as trackers:
            note(f"evaluate: watching {run.checkpoints}")
            _score_until_the_end(config, training, questions, trackers)
    note(f"evaluate: {training.end()}; all its newest checkpoints are scored")


class WatchedTraining:
    """Follows whether the run is trained, from look to look."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._run = run_folder(config)
        self._last_seen: float | None = None
        self._last_reminder: float | None = None

    def has_begun(self) -> bool:
        """Tell whether there is, or will soon be, a checkpoint to score."""
        has_ended = self.has_ended()
        return has_ended or self._last_seen is not None or newest_step(self._run) > 0

    def has_ended(self) -> bool:
        """Tell whether no further checkpoint is expected. Says now and then what is waited for."""
        now = time.monotonic()
        if is_being_trained(self._run):
            self._last_seen = now
            return False
        if is_trained(self._config):
            return True
        if self._last_seen is not None:
            return now - self._last_seen > PATIENCE_SECONDS
        if self._last_reminder is None or now - self._last_reminder > REMINDER_SECONDS:
            self._last_reminder = now
            note(f"evaluate: nobody trains {self._run.path} yet; waiting for it (Ctrl-C ends this)")
        return False

    def end(self) -> str:
        """Return how the training has ended."""
        if is_trained(self._config):
            return "the run has ended"
        return (
            f"nobody has trained the run for {human_seconds(PATIENCE_SECONDS)}, and it stands at "
            f"step {newest_step(self._run)} of {self._config.total_steps}. Start a watch again with "
            "its next job"
        )


def _score_until_the_end(
    config: RunConfig, training: WatchedTraining, questions: Questions, trackers: Trackers
) -> None:
    run = run_folder(config)
    last_scored = 0
    while True:
        # Ask first whether the run has ended: its last checkpoint is complete by then.
        has_ended = training.has_ended()
        waiting = [
            path
            for path in complete_checkpoints(run.checkpoints)
            if checkpoint_step(path) > last_scored
        ]
        if not waiting:
            if has_ended:
                return
            time.sleep(POLL_SECONDS)
            continue

        # Training must not get ahead of the scores.
        newest = waiting[-1]
        if len(waiting) > 1:
            note(
                f"evaluate: skipped {counted_noun(len(waiting) - 1, 'checkpoint')} before "
                f"{newest.name}, to keep up with the run"
            )
        last_scored = checkpoint_step(newest)
        try:
            with Lease(newest, WATCH, makes_folder=False):
                _score_checkpoint(config, last_scored, questions, trackers)
        except UserError as error:
            if newest.exists():
                raise
            warn(f"{newest.name} was removed while it was read, so it has no scores ({error})")


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
