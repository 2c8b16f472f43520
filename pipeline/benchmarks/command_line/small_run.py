"""A finished run that is as small as one can be, for commands that read runs.

Writes a run file, a corpus of a few kilobytes and all that `pipeline run` makes of them.
"""

import json
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
    hidden_size: 16
    intermediate_size: 32
    num_hidden_layers: 1
    num_attention_heads: 2
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


def write_small_run_file(folder: Path) -> Path:
    """Write the corpus and the run file, and return the run file."""
    lines = (
        json.dumps({"text": f"Sum {n} says that {n} and {n + 1} make {2 * n + 1}."}) + "\n"
        for n in range(DOCUMENTS)
    )
    (folder / "sums.jsonl").write_text("".join(lines))
    run_file = folder / "run.yaml"
    run_file.write_text(RUN_FILE)
    return run_file


def make_small_run(folder: Path) -> Path:
    """Train a model of 15 thousand parameters for four steps, score it, and return the run file.

    Raises UserError where a stage fails.
    """
    run_file = write_small_run_file(folder)
    note("benchmark: making a run of four steps, about half a minute")
    run_python("pipeline", "run", str(run_file))
    return run_file
