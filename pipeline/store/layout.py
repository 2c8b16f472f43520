"""Names every file and folder below the two roots.

`paths.data_dir` is shared by many runs, `paths.run_dir` holds one run. No other module spells the
names of files and folders there. Reads and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that `--help` need not import pydantic
    from pipeline.config.run_config import RunConfig

MANIFEST = "manifest.json"
"""Name of the file that is written last into the folder of a stage or a checkpoint."""
PACK_MANIFEST = "pack.manifest.json"
"""Name of the manifest of `pack`; MANIFEST beside it describes the packing index."""
REPORT_MANIFEST = "report.manifest.json"
"""Name of the manifest of `report`, which writes into the run folder itself."""
FILE_LIST = ".files.json"
"""Name of the list of a source's files, in its folder, where a manifest has very many."""
LEASE = ".lease.json"
"""Name of the file that names the holder of a root."""
START_ORDER = ".start.json"
"""Name of the file by which the supervisor gives orders to the ranks."""
CHECKPOINT_PREFIX = "step_"
RANK_PREFIX = "rank_"
REJECTED = "rejected"
"""Name of the folder of rejected rows, in a source's documents."""
TASKS = "tasks"
"""Name of the folder of the built-in tasks, in the folder of scores."""


@dataclass(frozen=True)
class DataFolder:
    """The folder that many runs share: documents, tokenizer, tokens, packing indices."""

    path: Path

    @property
    def raw_local_machine(self) -> Path:
        """Folder of `<slice>.jsonl.zst`: this Python installation's text, which `prepare` gathers."""
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
        """Measurements of the tokenizer on the sources' text, for the report, JSON."""
        return self.tokenizer / "statistics.json"

    @property
    def tokens(self) -> Path:
        """Folder of Megatron's `<source>/<shard>.bin`, `.idx` and `.doc`, written by `tokenize`."""
        return self.path / "tokens"

    @property
    def tokens_manifest(self) -> Path:
        """Manifest of `tokenize`, JSON."""
        return manifest_path(self.tokens)

    @property
    def packings(self) -> Path:
        """Folder of the packing indices, one folder for each sequence length."""
        return self.path / "packing"

    def packing(self, sequence_length: int) -> Path:
        """Return the folder of the packing index for one sequence length, written by `pack`.

        Holds the rows that best-fit packs, `<source>/<shard>.rows`, and a manifest of the index.
        """
        return self.packings / f"best-fit-{sequence_length}"

    def pack_manifest(self, sequence_length: int) -> Path:
        """Return the manifest of `pack`, JSON."""
        return self.packing(sequence_length) / PACK_MANIFEST

    @property
    def readers(self) -> Path:
        """Folder of a JSON file for each run that reads the data now, named by a hash of its folder."""
        return self.path / ".readers"

    def reader_mark(self, run_fingerprint: str) -> Path:
        """Return the JSON file with the folder of a run that reads the data now."""
        return self.readers / f"{run_fingerprint}.json"

    def passed_check(self, fingerprint: str) -> Path:
        """Return the JSON file with the facts that a passed check of its own process returned."""
        return self.path / ".checked" / f"{fingerprint}.json"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: its settings, checkpoints, records, export, scores, report."""

    path: Path

    @property
    def config(self) -> Path:
        """The run file with all settings resolved, YAML; the supervisor writes it at each start."""
        return self.path / "config.yaml"

    @property
    def settings(self) -> Path:
        """The settings that may not change on a resume, flat JSON, written by rank 0."""
        return self.path / "run.json"

    @property
    def recorded_tokens(self) -> Path:
        """The token files that the run reads, as recorded at its start, JSON."""
        return self.path / "tokens.json"

    @property
    def data_outlook(self) -> Path:
        """Epochs and unused text of each source, computed by the supervisor, JSON."""
        return self.path / "data.json"

    @property
    def deepspeed(self) -> Path:
        """The DeepSpeed settings that the ranks run with, JSON, written by rank 0."""
        return self.path / "deepspeed.json"

    @property
    def launch_environment(self) -> Path:
        """Lines `NAME=value`, by the supervisor, that the launcher exports on other hosts."""
        return self.path / "launch_environment"

    @property
    def start(self) -> Path:
        """The current start of the ranks, and whether they must stop, JSON.

        The supervisor writes it, all ranks read it. The file always exists: network file systems
        show a change when a file is opened, but a new file only later.
        """
        return self.path / START_ORDER

    @property
    def outcome(self) -> Path:
        """How the last start of the ranks ended, JSON, written by a rank (`store/outcome.py`)."""
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
        """One JSON line for each event: starts, saves, rollbacks; ranks and supervisor append."""
        return self.path / "events.jsonl"

    def rollback(self, step: int, number: int) -> Path:
        """Return the JSON file with the documents of the samples that a rollback skips."""
        return self.path / "rollbacks" / f"{checkpoint_name(step)}_{number}.json"

    @property
    def heartbeats(self) -> Path:
        """Folder with one file for each rank, which records what the main thread does."""
        return self.path / "heartbeat"

    def heartbeat(self, rank: int) -> Path:
        """Return a rank's heartbeat: one JSON line, rewritten in place."""
        return self.heartbeats / rank_name(rank)

    def written_heartbeats(self) -> list[Path]:
        """Return the heartbeats that exist, in the order of the ranks."""
        return sorted(self.heartbeats.glob(f"{RANK_PREFIX}*"))

    @property
    def stacks(self) -> Path:
        """Folder of the stacks of hung ranks, `rank_00000.txt`."""
        return self.path / "stacks"

    @property
    def stacks_request(self) -> Path:
        """Empty file; where it exists, all ranks write their stacks. Made by the supervisor."""
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
        """Return the logs of ranks that exist, in the order of the ranks."""
        return sorted(self.logs.glob(f"{RANK_PREFIX}*.log"))

    @property
    def launcher_log(self) -> Path:
        """Text file with the output of the launcher."""
        return self.logs / "launcher.log"

    @property
    def checkpoints(self) -> Path:
        """Folder with a folder for each checkpoint, and the manifest of `train`."""
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
        """Id of the run in W&B, the same for all its jobs, text, written by rank 0."""
        return self.path / "wandb" / "run_id"

    @property
    def tensorboard_of_scores(self) -> Path:
        """Folder of the scores' TensorBoard files. TensorBoard reads one growing file a folder."""
        return self.tensorboard / "scores"

    @property
    def wandb_id_of_scores(self) -> Path:
        """File with the id of the scores' run in W&B, where another run has the training."""
        return self.wandb_run_id.with_name("scores_id")

    @property
    def export(self) -> Path:
        """Folder with a transformers folder for each exported checkpoint, and a manifest."""
        return self.path / "export"

    @property
    def export_manifest(self) -> Path:
        """Manifest of `export`, JSON."""
        return manifest_path(self.export)

    @property
    def evaluation(self) -> Path:
        """Folder of scores (`scores_folder.py`) and the manifest of `evaluate`."""
        return self.path / "evaluation"

    @property
    def evaluation_manifest(self) -> Path:
        """Manifest of `evaluate`, JSON."""
        return manifest_path(self.evaluation)

    @property
    def tasks(self) -> Path:
        """Folder of the built-in tasks, `<task>.yaml` and `<task>.jsonl`, written by `evaluate`."""
        return self.evaluation / TASKS

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
        """Name of the run for people: its folder's, or the next one above a folder named `run`."""
        if self.path.name == "run":
            return self.path.parent.name
        return self.path.name


def data_folder(config: RunConfig) -> DataFolder:
    """Return `paths.data_dir` with the places below it."""
    return DataFolder(config.paths.data_dir)


def run_folder(config: RunConfig) -> RunFolder:
    """Return `paths.run_dir` with the places below it."""
    return RunFolder(config.paths.run_dir)


def manifest_path(folder: Path) -> Path:
    """Return the manifest of a stage's folder, or of a checkpoint."""
    return folder / MANIFEST


def shard_table_path(tokens: Path) -> Path:
    """Return the compact table of the shards in the folder of tokens."""
    return tokens / ".shards"


def rejected_rows(source_folder: Path) -> Path:
    """Return the folder of rejected rows of a source, a JSON lines file for each task."""
    return source_folder / REJECTED


def tokenizer_report_path(tokenizer: Path) -> Path:
    """Return the JSON file with the tokenizer's counts: sizes, special ids, proofs."""
    return tokenizer / "report.json"


def lease_path(folder: Path) -> Path:
    """Return the JSON file that names the holder of a root, who renews it while it runs."""
    return folder / LEASE


def stage_seconds_path(root: Path, stage: str) -> Path:
    """Return the JSON file with the seconds that a stage's jobs have taken so far."""
    return root / f".{stage}.seconds.json"


def task_records(folder: Path) -> Path:
    """Return the folder with a JSON file for each finished task, in a stage's folder."""
    return folder / ".tasks"


def scheduler_file(folder: Path, step: str) -> Path:
    """Return the JSON file by which Dask's workers of a Slurm step find their scheduler."""
    return folder / f".dask-scheduler-{step}.json"


def worker_logs(folder: Path) -> Path:
    """Return the folder of what Dask's workers under Slurm print, in a stage's folder."""
    return folder / ".slurm-logs"


def doctor_probe(folder: Path, token: str, node: str) -> Path:
    """Return the text file by which `doctor` tests whether all nodes see what a node has written."""
    return folder / f".doctor-{token}-{node}"


def latest_path(checkpoints: Path) -> Path:
    """Return the text file that names the newest checkpoint, for people and other programs."""
    return checkpoints / "latest"


def unfinished_checkpoints(checkpoints: Path) -> Path:
    """Return the folder of checkpoints that are not complete: being written, or of a killed job."""
    return checkpoints / ".partial"


def checkpoint_name(step: int) -> str:
    """Return the folder name of a checkpoint; names sort by step."""
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
    """Return the name that a rank's files begin with; names sort by rank."""
    return f"{RANK_PREFIX}{rank:05d}"
