"""Everything that a finished run left on disk, read once, for the summary and the report.

Reads the stages' manifests (data_dir/{documents,tokenizer,tokens,packing},
run_dir/{checkpoints,export,evaluation}) and run_dir/metrics.jsonl.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import (
    EvaluateCounts,
    ExportCounts,
    PrepareCounts,
    TaskScore,
    TokenizeCounts,
    TrainCounts,
)
from pipeline.store.layout import RunFolder, data_folder, run_folder
from pipeline.store.metrics import StepRecord, read_metrics
from pipeline.store.records import Manifest

NEEDED = ("prepare", "tokenize", "train", "export", "evaluate")
"""Stages without which there is nothing to show."""


class StageCounts(TypedDict):
    """What the stages in NEEDED have counted."""

    prepare: PrepareCounts
    tokenize: TokenizeCounts
    train: TrainCounts
    export: ExportCounts
    evaluate: EvaluateCounts


@dataclass(frozen=True)
class RunData:
    """The manifests' counts by stage, and the metrics."""

    name: str
    counts: StageCounts
    seconds: dict[str, float]
    """Stage -> wall time, in the order of the stages."""
    manifests: dict[str, Manifest[Any]]
    metrics: list[StepRecord]
    """One mapping a step."""

    @property
    def gain_over_unigram(self) -> float | None:
        """Fraction by which the validation loss is below the unigram entropy of the same tokens;
        None: no held-out text."""
        train = self.counts["train"]
        if train["validation_loss"] is None or train["unigram_entropy"] is None:
            return None
        return 1 - train["validation_loss"] / train["unigram_entropy"]

    @property
    def shots(self) -> list[int]:
        return sorted({row["shots"] for row in self.counts["evaluate"]["scores"]})

    def score(self, task: str, metric: str, shots: int) -> TaskScore | None:
        """Return one row of the scores, or None where it was not measured."""
        for row in self.counts["evaluate"]["scores"]:
            if (row["task"], row["metric"], row["shots"]) == (task, metric, shots):
                return row
        return None

    @property
    def score_names(self) -> list[tuple[str, str]]:
        """Every (task, metric), in the order of the harness."""
        return list(
            dict.fromkeys((row["task"], row["metric"]) for row in self.counts["evaluate"]["scores"])
        )

    def documents(self, source: str, split: str) -> int:
        """Return a source's documents; where ids existed already, those that their index tells
        of."""
        prepared = self.counts["prepare"]["sources"][source]["documents"][split]
        return prepared or self.counts["tokenize"]["sources"][source][split]["documents"]

    def text_bytes(self, source: str) -> int:
        """Return the bytes of a source's text, 0 where ids existed already: then nobody knows."""
        return sum(self.counts["prepare"]["sources"][source]["text_bytes"].values())


UNKNOWN = "\u2014"
"""Shown where there is no figure because there is no text."""


def read_run(config: RunConfig) -> RunData:
    """Read a run's manifests and metrics. Raises DataError naming the stages that have not
    finished."""
    data = data_folder(config)
    run = run_folder(config)
    places = {
        "prepare": data.documents_manifest,
        "train-tokenizer": data.tokenizer_manifest,
        "tokenize": data.tokens_manifest,
        "pack": data.pack_manifest(config.data.sequence_length),
        "train": run.train_manifest,
        "export": run.export_manifest,
        "evaluate": run.evaluation_manifest,
        "report": run.report_manifest,
    }
    if config.data.packing != "best-fit":  # another run of the same data may have it
        del places["pack"]
    manifests = {
        name: manifest
        for name, path in places.items()
        if (manifest := read_manifest(path)) is not None
    }
    if missing := [name for name in NEEDED if name not in manifests]:
        raise DataError(
            f"{run.path}: nothing to show yet, not finished: {', '.join(missing)}. Run `pipeline "
            "run` first."
        )
    return RunData(
        name=run.name,
        counts={
            "prepare": manifests["prepare"]["counts"],
            "tokenize": manifests["tokenize"]["counts"],
            "train": manifests["train"]["counts"],
            "export": manifests["export"]["counts"],
            "evaluate": manifests["evaluate"]["counts"],
        },
        seconds={name: manifest["seconds"] for name, manifest in manifests.items()},
        manifests=manifests,
        metrics=_steps_of(run),
    )


def _steps_of(run: RunFolder) -> list[StepRecord]:
    """Return the records of all steps. Raises DataError where there are none, or a line is
    broken."""
    rows = read_metrics(run.path)
    if not rows:
        raise DataError(
            f"{run.metrics}: there is no training step in it. Run `pipeline train` first."
        )
    return rows


def mean_and_error(row: TaskScore | None) -> str:
    """Return `0.512 ± 0.035`, without the error where there is none, or nothing."""
    if row is None:
        return ""
    error = row["standard_error"]
    return f"{row['value']:.3f}" + (f" ± {error:.3f}" if error is not None else "")


def chance_of(rows: Sequence[TaskScore | None]) -> str:
    """Return what guessing scores in a task, or nothing where there is nothing to choose from;
    `rows` are its scores."""
    chance = next((row["chance"] for row in rows if row is not None), None)
    return "" if chance is None else f"{chance:.2f}"
