"""Where everything lies below the two roots: `paths.data_dir`, which many runs share, and
`paths.run_dir`, which holds one run.

The only module that spells names of files and folders there. Nothing is read or written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that `--help` need not import pydantic
    from pipeline.config.run_config import RunConfig

MANIFEST = "manifest.json"
"""Name of the file that a finished stage, or a complete checkpoint, writes last."""
PACK_MANIFEST = "pack.manifest.json"
"""Name of the manifest of `pack`, beside that of the index itself."""
REPORT_MANIFEST = "report.manifest.json"
"""Name of the manifest of `report`, whose output lies in the run folder itself."""
LEASE = ".lease.json"
START_ORDER = ".start.json"
CHECKPOINT_PREFIX = "step_"
RANK_PREFIX = "rank_"
REJECTED = "rejected"
TASKS = "tasks"


@dataclass(frozen=True)
class DataFolder:
    """The folder that many runs share: documents, tokenizer, tokens, packing indices."""

    path: Path

    @property
    def raw_local_machine(self) -> Path:
        """Folder of `<slice>.jsonl.zst` and a manifest: text of this Python installation, gathered
        by `prepare` once."""
        return self.path / "raw" / "local-machine"

    @property
    def documents(self) -> Path:
        """Folder of `<source>/<split>_<key>_<part>.parquet`, written by `prepare`."""
        return self.path / "documents"

    @property
    def documents_manifest(self) -> Path:
        """Manifest of `prepare`, JSON."""
        return manifest_path(self.documents)

    @property
    def tokenizer(self) -> Path:
        """The tokenizer as a transformers folder, written by `train-tokenizer`."""
        return self.path / "tokenizer"

    @property
    def tokenizer_manifest(self) -> Path:
        """Manifest of `train-tokenizer`, JSON."""
        return manifest_path(self.tokenizer)

    @property
    def tokenizer_statistics(self) -> Path:
        """What the tokenizer does to the sources' text, measured for the report, JSON."""
        return self.tokenizer / "statistics.json"

    @property
    def tokens(self) -> Path:
        """Folder of `<source>/<shard>.bin`, `.idx` and `.doc`, Megatron indexed datasets, written
        by `tokenize`."""
        return self.path / "tokens"

    @property
    def tokens_manifest(self) -> Path:
        """Manifest of `tokenize`, JSON."""
        return manifest_path(self.tokens)

    def packing(self, sequence_length: int) -> Path:
        """Return the folder of `<source>/<shard>.rows` and a manifest of their own: the rows that
        best-fit packs at one length, written by `pack`."""
        return self.path / "packing" / f"best-fit-{sequence_length}"

    def pack_manifest(self, sequence_length: int) -> Path:
        """Return the manifest of `pack`, JSON."""
        return self.packing(sequence_length) / PACK_MANIFEST

    @property
    def readers(self) -> Path:
        """Folder of one JSON file for each run that reads the data now, named by a hash of the
        run's folder."""
        return self.path / ".readers"

    def reader_mark(self, run_fingerprint: str) -> Path:
        """Return the JSON file that names the folder of a run that reads the data now."""
        return self.readers / f"{run_fingerprint}.json"

    def passed_check(self, fingerprint: str) -> Path:
        """Return the JSON file with what a check in a process of its own found out, where nothing
        was wrong."""
        return self.path / ".checked" / f"{fingerprint}.json"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: its settings, checkpoints, records, export, scores, report."""

    path: Path

    @property
    def config(self) -> Path:
        """The run file with all settings resolved, YAML, written by the supervisor at each
        start."""
        return self.path / "config.yaml"

    @property
    def settings(self) -> Path:
        """The settings that may not change when the run is resumed, flat JSON, written by rank
        0."""
        return self.path / "run.json"

    @property
    def recorded_tokens(self) -> Path:
        """The token files that the run reads, as recorded at its start, JSON."""
        return self.path / "tokens.json"

    @property
    def data_outlook(self) -> Path:
        """Epochs and unused text of each source, foreseen by the supervisor, JSON."""
        return self.path / "data.json"

    @property
    def deepspeed(self) -> Path:
        """The DeepSpeed settings that the ranks run with, JSON, written by rank 0."""
        return self.path / "deepspeed.json"

    @property
    def launch_environment(self) -> Path:
        """Lines `NAME=value` that the DeepSpeed launcher exports on other hosts, written by the
        supervisor."""
        return self.path / "launch_environment"

    @property
    def start(self) -> Path:
        """The present start of the ranks and whether they are to stop, JSON: the supervisor writes
        it, all ranks read it.

        One file that is always there: network file systems show a change of it when it is opened,
        but a new file only later.
        """
        return self.path / START_ORDER

    @property
    def outcome(self) -> Path:
        """How the last start of the ranks ended, JSON, written by a rank (see `store/outcome.py`)."""
        return self.path / "outcome.json"

    @property
    def metrics(self) -> Path:
        """One JSON line for each completed step, written by rank 0."""
        return self.path / "metrics.jsonl"

    @property
    def abandoned_metrics(self) -> Path:
        """Lines of `metrics` for steps that were trained again after a crash or a rollback."""
        return self.path / "metrics.abandoned.jsonl"

    @property
    def events(self) -> Path:
        """One JSON line for each event: starts, saves, resumes, rollbacks; written by ranks and
        supervisor."""
        return self.path / "events.jsonl"

    def rollback(self, step: int, number: int) -> Path:
        """Return the JSON file that names the documents of the steps which a rollback left out."""
        return self.path / "rollbacks" / f"{checkpoint_name(step)}_{number}.json"

    @property
    def heartbeats(self) -> Path:
        """Folder of one file for each rank, with what its main thread does."""
        return self.path / "heartbeat"

    def heartbeat(self, rank: int) -> Path:
        """Return a rank's sign of life: one JSON line, rewritten in place."""
        return self.heartbeats / rank_name(rank)

    @property
    def stacks(self) -> Path:
        """Folder of the stacks of hung ranks, `rank_00000.txt`."""
        return self.path / "stacks"

    @property
    def stacks_request(self) -> Path:
        """Empty file by which the supervisor asks all ranks for their stacks."""
        return self.stacks / "wanted"

    def stacks_of_rank(self, rank: int) -> Path:
        """Return the text file into which a rank writes the stacks of all its threads."""
        return self.stacks / f"{rank_name(rank)}.txt"

    def written_stacks(self) -> dict[int, Path]:
        """Return the files of stacks that exist, by rank."""
        paths = sorted(self.stacks.glob(f"{RANK_PREFIX}*.txt"))
        return {int(path.stem.removeprefix(RANK_PREFIX)): path for path in paths}

    @property
    def logs(self) -> Path:
        """Folder of what ranks and launcher print, and of stacks that were kept."""
        return self.path / "logs"

    def rank_log(self, rank: int) -> Path:
        """Return the text file with everything that a rank prints."""
        return self.logs / f"{rank_name(rank)}.log"

    def rank_logs(self) -> list[Path]:
        """Return the logs of ranks that exist, in their order."""
        return sorted(self.logs.glob(f"{RANK_PREFIX}*.log"))

    @property
    def launcher_log(self) -> Path:
        """What the launcher prints, text."""
        return self.logs / "launcher.log"

    @property
    def checkpoints(self) -> Path:
        """Folder of one folder for each checkpoint, and the manifest of `train`."""
        return self.path / "checkpoints"

    @property
    def train_manifest(self) -> Path:
        """Manifest of `train`, JSON."""
        return manifest_path(self.checkpoints)

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint after a step."""
        return self.checkpoints / checkpoint_name(step)

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's files, written by rank 0."""
        return self.path / "tensorboard"

    @property
    def wandb_run_id(self) -> Path:
        """The id under which every part of the run is logged in W&B, text, written by rank 0."""
        return self.path / "wandb" / "run_id"

    @property
    def export(self) -> Path:
        """Folder of one transformers folder for each exported checkpoint, and the manifest of
        `export`."""
        return self.path / "export"

    @property
    def export_manifest(self) -> Path:
        """Manifest of `export`, JSON."""
        return manifest_path(self.export)

    @property
    def evaluation(self) -> Path:
        """Folder of scores, `shots_<k>.json`, and the manifest of `evaluate`."""
        return self.path / "evaluation"

    @property
    def evaluation_manifest(self) -> Path:
        """Manifest of `evaluate`, JSON."""
        return manifest_path(self.evaluation)

    @property
    def tasks(self) -> Path:
        """Folder of the built-in tasks, `<task>.yaml` and `<task>.jsonl`, written by `evaluate`."""
        return self.evaluation / TASKS

    def scores(self, piece: str) -> Path:
        """Return the JSON file with what one piece of the evaluation found, written by
        `evaluate`."""
        return self.evaluation / f"{piece}.json"

    @property
    def report(self) -> Path:
        """The run on one HTML page, written by `report`."""
        return self.path / "report.html"

    @property
    def report_manifest(self) -> Path:
        """Manifest of `report`, JSON."""
        return self.path / REPORT_MANIFEST

    @property
    def name(self) -> str:
        """What a person calls the run: its folder, or the folder above one that is named `run`."""
        return self.path.parent.name if self.path.name == "run" else self.path.name


def data_folder(config: RunConfig) -> DataFolder:
    """Return `paths.data_dir` with the places below it."""
    return DataFolder(config.paths.data_dir)


def run_folder(config: RunConfig) -> RunFolder:
    """Return `paths.run_dir` with the places below it."""
    return RunFolder(config.paths.run_dir)


def manifest_path(folder: Path) -> Path:
    """Return the manifest of a stage's folder, or of a checkpoint."""
    return folder / MANIFEST


def rejected_rows(source_folder: Path) -> Path:
    """Return the folder, in a source's documents, of samples of what `prepare` rejected, one JSON
    lines file a task."""
    return source_folder / REJECTED


def tokenizer_report_path(tokenizer: Path) -> Path:
    """Return the JSON file, in the tokenizer's folder, with what was learned: sizes, special ids,
    proofs."""
    return tokenizer / "report.json"


def lease_path(folder: Path) -> Path:
    """Return the JSON file that says who holds a root, refreshed as long as the holder lives."""
    return folder / LEASE


def stage_seconds_path(root: Path, stage: str) -> Path:
    """Return the JSON file with the seconds that a stage's jobs have taken so far."""
    return root / f".{stage}.seconds.json"


def task_records(folder: Path) -> Path:
    """Return the folder, in a stage's folder, of one JSON file for each finished task."""
    return folder / ".tasks"


def scheduler_file(folder: Path, step: str) -> Path:
    """Return the JSON file, in a stage's folder, through which Dask's workers of a Slurm step find
    their scheduler."""
    return folder / f".dask-scheduler-{step}.json"


def worker_logs(folder: Path) -> Path:
    """Return the folder, in a stage's folder, of what Dask's workers under Slurm print."""
    return folder / ".slurm-logs"


def latest_path(checkpoints: Path) -> Path:
    """Return the text file that names the newest checkpoint, for people and other programs.

    What a resume goes by are the checkpoints themselves.
    """
    return checkpoints / "latest"


def unfinished_checkpoints(checkpoints: Path) -> Path:
    """Return the folder of checkpoints that are being written, or were when the job was killed."""
    return checkpoints / ".partial"


def checkpoint_name(step: int) -> str:
    """Return the folder name of a checkpoint, which sorts by step."""
    return f"{CHECKPOINT_PREFIX}{step:08d}"


def checkpoint_step(checkpoint: Path) -> int:
    """Return the step in the folder name of a checkpoint."""
    return int(checkpoint.name.removeprefix(CHECKPOINT_PREFIX))


def checkpoint_folders(checkpoints: Path) -> list[Path]:
    """Return the folders that have a checkpoint's name, oldest first, complete or not."""
    return sorted(
        path
        for path in checkpoints.glob(f"{CHECKPOINT_PREFIX}*")
        if path.is_dir() and path.name.removeprefix(CHECKPOINT_PREFIX).isdigit()
    )


def rank_name(rank: int) -> str:
    """Return how a rank's files are named, which sorts by rank."""
    return f"{RANK_PREFIX}{rank:05d}"
