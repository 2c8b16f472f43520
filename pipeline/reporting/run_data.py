"""Records of a finished run on disk, read once for the summary and the report.

Reads the manifests of all stages in `data_dir` and `run_dir`, metrics.jsonl and events.jsonl.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.evaluation.clean_scores import CleanScore, stored_clean_scores
from pipeline.evaluation.suite_scores import SuiteScore
from pipeline.reporting.run_account import RunAccount, account_of_run
from pipeline.reporting.score_curves import mean_over_seeds
from pipeline.reporting.step_series import StepSeries, step_series
from pipeline.store.artifacts import read_manifest
from pipeline.store.contamination_files import clean_scores_path
from pipeline.store.counts import (
    EvaluateCounts,
    ExportCounts,
    ModelScore,
    PrepareCounts,
    TaskScore,
    TokenizeCounts,
    TrainCounts,
    scores_with_values,
)
from pipeline.store.curation.verdict_counts import SelectCounts, SplitVerdicts
from pipeline.store.files import read_json, read_json_lines
from pipeline.store.layout import RunFolder, run_folder
from pipeline.store.metrics import iterate_metrics
from pipeline.store.records import Manifest
from pipeline.store.scores_folder import ScoresFolder
from pipeline.store.stages import STAGES

NEEDED = ("prepare", "tokenize", "train", "export", "evaluate")
"""Stages that must have finished before summary and report."""
UNKNOWN = "\u2014"
"""Printed instead of a figure of text for a source of existing token ids."""


class StageCounts(TypedDict):
    """Counts in the manifests of the stages in NEEDED."""

    prepare: PrepareCounts
    tokenize: TokenizeCounts
    train: TrainCounts
    export: ExportCounts
    evaluate: EvaluateCounts


@dataclass(frozen=True)
class RunData:
    """Manifests and metrics of a finished run."""

    name: str
    counts: StageCounts
    seconds: dict[str, float]
    """Wall time of each stage, in the order of the stages."""
    manifests: dict[str, Manifest[Any]]
    """Manifest of each finished stage, in the order of the stages."""
    steps: StepSeries
    """All steps, oldest first."""
    clean_scores: list[CleanScore]
    """Scores on questions that the run has read, and has not; empty where nothing was searched."""
    model_scores: list[ModelScore]
    """Scores of all models that were scored in this run; those of the last one are in `counts`."""
    suite_scores: list[SuiteScore]
    """Means of `evaluation.suite` for all models; empty without a suite."""
    account: RunAccount | None
    """Where the time of the training went; None where no event tells it."""

    @property
    def gain_over_unigram(self) -> float | None:
        """Fraction by which the validation loss is below the unigram entropy of the same tokens.

        None without held-out text, and where that is one token again and again.
        """
        train = self.counts["train"]
        if train["validation_loss"] is None or not train["unigram_entropy"]:
            return None
        return 1 - train["validation_loss"] / train["unigram_entropy"]

    @property
    def last_loss(self) -> str:
        """Training loss of the last step, in nats per token; "not finite" where it has no number."""
        loss = self.counts["train"]["loss"]
        if loss is None:
            return "not finite"
        return f"{loss:.3f}"

    @property
    def shots(self) -> list[int]:
        """Numbers of shots with which tasks were scored, in ascending order."""
        return sorted({row["shots"] for row in self.counts["evaluate"]["scores"]})

    @property
    def score_names(self) -> list[tuple[str, str]]:
        """Every `(task, metric)`, in the order of the harness."""
        scores = self.counts["evaluate"]["scores"]
        return list(dict.fromkeys((row["task"], row["metric"]) for row in scores))

    def score(self, task: str, metric: str, shots: int) -> TaskScore | None:
        """Return one score, the mean over the seeds of its examples; None if it was not measured."""
        seeds = [
            row
            for row in self.counts["evaluate"]["scores"]
            if (row["task"], row["metric"], row["shots"]) == (task, metric, shots)
        ]
        if not seeds:
            return None
        mean, error = mean_over_seeds(seeds)
        return {**seeds[0], "value": mean, "standard_error": error}

    def scores_of(self, task: str, metric: str) -> list[TaskScore]:
        """Return the scores of a task by one metric, in ascending order of shots."""
        rows = [self.score(task, metric, shots) for shots in self.shots]
        return [row for row in rows if row is not None]

    def documents(self, source: str, split: Literal["train", "validation"]) -> int:
        """Return the number of documents of a source that are read.

        For existing token ids it is the number in their index.
        """
        prepared = self.counts["prepare"]["sources"][source]["documents"][split]
        if not prepared:
            return self.counts["tokenize"]["sources"][source][split]["documents"]
        verdicts = self._verdicts(source)
        if verdicts is None:
            return prepared
        return verdicts[split]["kept"] if split in verdicts else 0

    def text_bytes(self, source: str) -> int:
        """Return the bytes of text of a source that are read; 0 for existing token ids."""
        verdicts = self._verdicts(source)
        if verdicts is not None:
            return sum(split["kept_bytes"] for split in verdicts.values())
        return sum(self.counts["prepare"]["sources"][source]["text_bytes"].values())

    def _verdicts(self, source: str) -> dict[str, SplitVerdicts] | None:
        """Return the verdicts of a source by split; None where nothing was selected."""
        if "select" not in self.manifests:
            return None
        counts: SelectCounts = self.manifests["select"]["counts"]
        return counts["sources"].get(source)


def read_finished_run(config: RunConfig) -> RunData:
    """Read the manifests and metrics of a run.

    Raises DataError naming the stages that have not finished, and for metrics.jsonl without a step
    or with a broken line.
    """
    # What has finished is known from the manifests.
    run = run_folder(config)
    manifests: dict[str, Manifest[Any]] = {}
    for stage, path in _manifest_paths(config).items():
        manifest = read_manifest(path)
        if manifest is not None:
            manifests[stage] = manifest
    missing = [stage for stage in NEEDED if stage not in manifests]
    if missing:
        raise DataError(
            f"{run.path}: there is nothing to report yet; not finished: {', '.join(missing)}. Run "
            "`pipeline run` first."
        )

    # Counts have the types of their stages; scores lie beside them.
    scores = ScoresFolder(run.evaluation)
    return RunData(
        name=run.name,
        counts={
            "prepare": manifests["prepare"]["counts"],
            "tokenize": manifests["tokenize"]["counts"],
            "train": manifests["train"]["counts"],
            "export": manifests["export"]["counts"],
            "evaluate": manifests["evaluate"]["counts"],
        },
        seconds={stage: manifest["seconds"] for stage, manifest in manifests.items()},
        manifests=manifests,
        steps=_steps_of(run),
        clean_scores=_clean_scores(run, manifests["evaluate"]),
        model_scores=scores_with_values(read_json_lines(scores.table)),
        suite_scores=read_json(scores.suite) or [],
        account=account_of_run(run.path),
    )


def _clean_scores(run: RunFolder, evaluated: Manifest[Any]) -> list[CleanScore]:
    """Return the scores without questions that were read, if the last evaluation made them."""
    path = clean_scores_path(run.evaluation)
    if path.relative_to(run.evaluation).as_posix() not in evaluated["files"]:
        return []
    return stored_clean_scores(run.path)


def _manifest_paths(config: RunConfig) -> dict[str, Path]:
    """Return where the manifest of each stage is that the run file asks for, in their order.

    Output of a stage that is not asked for can only be another run's on the same data.
    """
    return {
        stage.name: stage.manifest_path(config) for stage in STAGES if not stage.is_left_out(config)
    }


def _steps_of(run: RunFolder) -> StepSeries:
    """Return all steps. Raises DataError if there is none, or a line is broken."""
    steps = step_series(iterate_metrics(run.path))
    if not len(steps):
        raise DataError(f"{run.metrics}: holds no training step. Run `pipeline train` first.")
    return steps


def mean_and_error(score: TaskScore | CleanScore | None) -> str:
    """Return a score and its standard error, if it has one: `0.512 ± 0.035`; "" for None."""
    if score is None:
        return ""
    error = score["standard_error"]
    if error is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ± {error:.3f}"


def chance_in_words(scores: Sequence[TaskScore]) -> str:
    """Return the score of guessing in a task; "" if its questions have no choices."""
    if not scores or scores[0]["chance"] is None:
        return ""
    return f"{scores[0]['chance']:.2f}"
