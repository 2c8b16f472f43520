"""The run that `pipeline trace` looks at: its config, its data, and how far training has come.

Reads the run folder (config.yaml, metrics.jsonl, events.jsonl, the newest checkpoint's manifest)
and the manifests in data_dir.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.sampling.dataset import open_data
from pipeline.sampling.documents_of_tokens import TokenDocuments
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.order import other_version
from pipeline.sampling.recorded_tokens import tokens_of_run
from pipeline.sampling.skipped import skipped_samples
from pipeline.store.files import read_json
from pipeline.store.layout import RunFolder, checkpoint_folders, data_folder, manifest_path
from pipeline.store.metrics import last_step_record
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.store.recorded_run import recorded_config
from pipeline.tokens.pieces import Pieces, load_pieces


def open_run(run: Path, overrides: Sequence[str]) -> RunConfig:
    """Return the config of a run, given by the run's folder or by a run file that names the folder.

    Raises DataError where no run has begun there, or the run's tokens are missing.
    """
    config = recorded_config(run, overrides)
    if not data_folder(config).tokens_manifest.is_file():
        raise DataError(
            f"{config.paths.data_dir}: does not hold the run's tokens. If they have been moved, "
            "set paths.data_dir=FOLDER to their new folder"
        )
    return config


@dataclass(frozen=True)
class TracedRun:
    """A run that is traced: its data, and how far training has come."""

    config: RunConfig
    data: TrainingData
    completed: int
    """Completed steps."""

    @cached_property
    def documents(self) -> list[TokenDocuments]:
        """The documents of each source, in the order of the data's sources."""
        return [
            TokenDocuments(
                source.name, source.stream, self.config.sources[source.name].has_documents
            )
            for source in self.data.sources
        ]

    @cached_property
    def pieces(self) -> Pieces:
        """The tokenizer's vocabulary."""
        return load_pieces(data_folder(self.config).tokenizer / TOKENIZER_JSON)

    @cached_property
    def piece_bytes(self) -> np.ndarray:
        """Bytes of text that each id stands for, `(ids,) int64`."""
        return np.array([len(piece) for piece in self.pieces.of_id], np.int64)

    def positions(self, step: int) -> range:
        """Return the positions of the run that a step consumes."""
        plan = self.config.step_plan
        return range(plan.first_position(step), plan.first_position(step + 1))


def read_run(config: RunConfig) -> TracedRun:
    """Open a run's data and read how far training has come.

    Raises DataError where the run's tokens are missing, or its order is of another version.
    """
    run_dir = config.paths.run_dir
    before = read_json(RunFolder(run_dir).settings)
    # Positions mean the same samples only in the version of the order that began the run.
    of_another_version = None
    if before:
        of_another_version = other_version(before, run_dir)
    if of_another_version is not None:
        raise DataError(
            f"{of_another_version}, so its samples cannot be determined. Trace the run with the "
            "version of the pipeline that began it."
        )
    data = open_data(config, recorded=tokens_of_run(config))
    # The newest checkpoint and the events know which samples were skipped.
    saved = map(manifest_path, checkpoint_folders(RunFolder(run_dir).checkpoints))
    newest = [path for path in saved if path.exists()][-1:]
    skipped = tuple(
        (first, end) for path in newest for first, end in read_json(path)["state"]["skipped"]
    )
    last = last_step_record(run_dir)
    order = data.order.skipping(skipped_samples(config, skipped))
    completed = 0
    if last is not None:
        completed = last["step"]
    return TracedRun(config, TrainingData(order, data.sources, data.shape), completed)
