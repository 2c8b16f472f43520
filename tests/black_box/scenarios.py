"""Runs of the pipeline as a user starts them: a corpus, run files and commands. Imports nothing of
the pipeline."""

import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]

RUN_FILE = """\
paths: {data_dir: data, run_dir: stream}
sources:
  prose: {kind: jsonl, paths: [prose.jsonl.gz]}
  sums: {kind: parquet, paths: [sums.parquet], text_field: body}
  notes: {kind: text, paths: [notes]}
prepare: {validation_fraction: 0.2, shard_text_bytes: 16KiB}
tokenizer: {kind: sentencepiece-bpe, vocab_size: 512}
model:
  architecture: llama
  config:
    hidden_size: 32
    intermediate_size: 64
    num_hidden_layers: 2
    num_attention_heads: 2
    max_position_embeddings: 256
    tie_word_embeddings: true
data: {sequence_length: 64, validation_sequences: 4}
optimizer: {peak_learning_rate: 1e-2}
schedule: {warmup_tokens: 2048}
batch: {global_batch_tokens: 512, micro_batch_sequences: 2}
precision: {dtype: fp32}
train: {train_tokens: 10240, validate_every_steps: 10}
checkpoint: {save_every_steps: 10}
evaluation: {items: 8, shots: [0, 1], heldout_bytes: 2000, tasks: [patterns, heldout_cloze]}
launch: {ranks: 1}
executor: {workers: 1}
deepspeed: ROOT/ds_configs/zero1.json
"""

REFERENCE = "scorer: harness"
"""Setting with which scores are equal to the last digit."""
PACKED = (
    "paths.run_dir=packed",
    "data.packing=best-fit",
    "data.document_mask=true",
    "optimizer.kind=adamw",
    "launch.ranks=2",
    "deepspeed=ROOT/ds_configs/zero3.json",
)
"""ZeRO 3 on two ranks, rows of whole documents that do not see each other."""

BRANCH = (
    *PACKED,
    "paths.run_dir=branch",
    "train.init_from=packed@10",
    "train.init_take=everything",
    "schedule.kind=cosine",
)
"""Goes on from the middle of the run above with another schedule."""

ROLLBACK = (
    "paths.run_dir=rollback",
    "optimizer.peak_learning_rate=1e-5",
    "guard.spike_deviations=1",
    "guard.spike_window_steps=8",
    "guard.max_rollbacks=2",
    "checkpoint.save_every_steps=4",
)
"""A model that hardly learns under a guard so strict that the noise of its losses counts as
spikes."""

RESHARD = (*PACKED, "paths.run_dir=reshard", "launch.ranks=1")
"""A copy of the packed run, cut to its first checkpoint, finished by one rank."""

SLICES = ("book", "c4", "github", "stackexchange", "wikipedia")
"""Files of the real corpus that the quickstart reads, without `.jsonl.zst`."""


@dataclass(frozen=True)
class Program:
    """A copy of the pipeline: the folder that holds its package and its templates."""

    root: Path

    def __call__(
        self, folder: Path, *arguments: str, exit_code: int = 0, seconds: float = 1800
    ) -> subprocess.CompletedProcess[str]:
        """Run one command in a folder, where ROOT in an argument stands for this copy. Fails on
        another exit code."""
        process = self.start(folder, *arguments)
        try:
            output, errors = process.communicate(timeout=seconds)
        finally:
            process.kill()
        assert process.returncode == exit_code, (
            f"{arguments}: {process.returncode}\n{output}{errors}"
        )
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def has_command(self, folder: Path, name: str) -> bool:
        """Tell whether it offers a command that may have been added (`allowed.py`)."""
        return (
            re.search(rf"^(?:│ |  ){name} ", self(folder, "--help").stdout, re.MULTILINE)
            is not None
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command."""
        return {
            **os.environ,
            "PYTHONPATH": str(self.root),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }

    def start(self, folder: Path, *arguments: str) -> subprocess.Popen[str]:
        """Start one command in a folder."""
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pipeline",
                *(argument.replace("ROOT", str(self.root)) for argument in arguments),
            ],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def make_corpus(folder: Path) -> None:
    """Write three sources of made-up sentences, one of each kind of file."""
    generator = random.Random(16)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiouäé"]
    words = ["".join(generator.choices(syllables, k=generator.randrange(1, 4))) for _ in range(300)]
    frequencies = [1 / rank for rank in range(1, len(words) + 1)]

    def sentences(count: int) -> str:
        return " ".join(
            " ".join(generator.choices(words, frequencies, k=9)) + "." for _ in range(count)
        )

    with gzip.GzipFile(folder / "prose.jsonl.gz", "wb", mtime=0) as packed:
        for number in range(200):
            row = {
                "text": sentences(generator.randrange(1, 12)),
                "meta": {"url": f"prose/{number}"},
            }
            packed.write((json.dumps(row) + "\n").encode())
    pairs = [(number % 10, number % 7) for number in range(150)]
    bodies = [" ".join(f"{i} and {j} make {i + j}." for _ in range(1 + i)) for i, j in pairs]
    table = pa.table({"body": bodies, "n": list(range(len(bodies)))})
    pq.write_table(table, folder / "sums.parquet")
    (folder / "notes").mkdir()
    for number in range(40):
        (folder / "notes" / f"{number:02d}.txt").write_text(sentences(5) + "\n", "utf-8")


def write_run_file(folder: Path, program: Program) -> None:
    """Write run.yaml into a folder, with the program's own template and names of settings."""
    (folder / "run.yaml").write_text(RUN_FILE.replace("ROOT", str(program.root)))
    if program.root == ROOT:
        name_settings_anew(folder)


def name_settings_anew(folder: Path) -> None:
    """Name the settings of a run file that the old commit has read as they are named now, and have
    answers scored as it did."""
    path = folder / "run.yaml"
    path.write_text(path.read_text().replace("{items: 8,", f"{{limit: 8, {REFERENCE},"))


def run_stream(folder: Path, program: Program) -> None:
    """All stages, from text to report."""
    program(folder, "run", "run.yaml")


def run_packed(folder: Path, program: Program) -> None:
    """Pack, train and export with ZeRO 3; the data must be there."""
    if program.has_command(folder, "pack"):
        program(folder, "pack", "run.yaml", *PACKED)
    program(folder, "train", "run.yaml", *PACKED)
    program(folder, "export", "run.yaml", *PACKED)


def run_branch(folder: Path, program: Program) -> None:
    """Branch from the packed run."""
    program(folder, "train", "run.yaml", *BRANCH)


def run_rollback(folder: Path, program: Program) -> None:
    """Train under the strict guard until it refuses to go back once more."""
    program(folder, "train", "run.yaml", *ROLLBACK, exit_code=2)


def run_reshard(folder: Path, program: Program) -> None:
    """Finish the first half of the packed run on one rank instead of two."""
    cut_to_first_checkpoint(folder / "packed", folder / "reshard")
    program(folder, "train", "run.yaml", *RESHARD)


def run_quickstart(folder: Path, program: Program, corpus: Path) -> None:
    """Run the quickstart with all its settings, from text to report, on a corpus of five slices
    instead of the text that comes with Python."""
    sources = {
        name: {"kind": "jsonl", "paths": [str(corpus / f"{name}.jsonl.zst")]} for name in SLICES
    }
    program(
        folder,
        "run",
        "ROOT/jobs/quickstart.yaml",
        f"sources={json.dumps(sources)}",
        f"data.mixture={json.dumps(dict.fromkeys(SLICES, 0.2))}",
        "paths.data_dir=data",
        "paths.run_dir=quickstart",
        "launch.ranks=2",
        *(["evaluation.scorer=harness"] if program.root == ROOT else []),
    )


def cut_to_first_checkpoint(run: Path, copy: Path) -> None:
    """Copy a run folder as it was after its first checkpoint, so that a command goes on from
    there."""
    shutil.copytree(run, copy, symlinks=True)
    checkpoints = sorted((copy / "checkpoints").glob("step_*"))
    for later in checkpoints[1:]:
        shutil.rmtree(later)
    (copy / "checkpoints" / "manifest.json").unlink()
    shutil.rmtree(copy / "export", ignore_errors=True)


RUNS = {
    "stream": run_stream,
    "packed": run_packed,
    "branch": run_branch,
    "rollback": run_rollback,
    "reshard": run_reshard,
}
