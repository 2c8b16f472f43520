"""A run that is as small as one can be: one is trained for the commands that read runs, and one is
started for the seconds until its first step.

Writes a corpus of a few kilobytes, a run file and all that `pipeline run` makes of them; the run file
of a curated corpus and its selection; and the file of a study whose runs are not trained.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.benchmarks.common import run_python
from pipeline.logs import note

DOCUMENTS = 200
RUN_FILE = """\
paths: {data_dir: data, run_dir: run}
sources: {sums: {kind: jsonl, paths: [sums.jsonl]}}
prepare: {validation_fraction: 0.1}
tokenizer: {kind: byte-level-bpe, vocab_size: 270}
model:
  architecture: llama
  config:
    hidden_size: 32
    intermediate_size: 64
    num_hidden_layers: 2
    num_attention_heads: 4
    max_position_embeddings: 256
data: {sequence_length: 32, validation_sequences: 4}
optimizer: {peak_learning_rate: 1e-3}
schedule: {warmup_tokens: 64}
batch: {global_batch_tokens: 128, micro_batch_sequences: 4}
precision: {dtype: fp32}
train: {train_tokens: 512, validate_every_steps: 2}
checkpoint: {save_every_steps: 2}
evaluation: {tasks: [arithmetic], shots: [0], limit: 4, heldout_bytes: 500}
launch: {kind: local, ranks: 1}
deepspeed: zero1
"""
CURATED_FILE = """\
paths: {data_dir: curated, run_dir: curated-run}
sources: {sums: {kind: jsonl, paths: [sums.jsonl]}}
prepare: {validation_fraction: 0.1}
annotate: {signals: [rps_doc_word_count]}
select: {rules: [rps_doc_word_count >= 8], exact_duplicates: [text_hash]}
"""
STUDY_FILE = """\
kind: few-shot
base: run.yaml
folder: study
sizes: {widths: [16, 32], width_per_layer: 16, head_dim: 8}
budgets: {tokens: [1024]}
rules: {mup_base_width: 32, warmup: 0.08, decay: 0.25}
executor: {kind: none}
"""


@dataclass(frozen=True)
class SmallRun:
    """The files that name a small run, the curated corpus of the same documents, and a study."""

    run_file: Path
    curated_file: Path
    study_file: Path


def write_small_run_files(folder: Path) -> SmallRun:
    """Write the corpus and the files."""
    lines = (
        json.dumps({"text": f"Sum {n} says that {n} and {n + 1} make {2 * n + 1}."}) + "\n"
        for n in range(DOCUMENTS)
    )
    (folder / "sums.jsonl").write_text("".join(lines))
    small = SmallRun(folder / "run.yaml", folder / "curated.yaml", folder / "study.yaml")
    small.run_file.write_text(RUN_FILE)
    small.curated_file.write_text(CURATED_FILE)
    small.study_file.write_text(STUDY_FILE)
    return small


def make_small_data(folder: Path) -> Path:
    """Do the data stages, and return the run file. Raises UserError where a stage fails."""
    run_file = write_small_run_files(folder).run_file
    for stage in ("prepare", "train-tokenizer", "tokenize"):
        run_python("pipeline", stage, str(run_file))
    return run_file


def make_small_run(folder: Path) -> SmallRun:
    """Train a model of 45 thousand parameters for four steps, score it, and curate its corpus.

    Raises UserError where a stage fails.
    """
    small = write_small_run_files(folder)
    note("benchmark: making a run of four steps, about half a minute")
    run_python("pipeline", "run", str(small.run_file))
    run_python("pipeline", "run", str(small.curated_file))
    return small
