"""Fixtures: a tokenized corpus for training tests, made once, and run files beside it."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from forks import forking
from helpers import run_stages

from pipeline.config.run_file import load
from pipeline.model.model_facts import model_facts

TEMPLATES = Path(__file__).parents[1] / "ds_configs"

OFFLOAD = {
    "zero3_offload": None,
    "zero2_offload": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
}
"""Templates with optimizer states in host memory: shipped, and not."""

RUN_FILE = """\
paths: {data_dir: data, run_dir: run}
sources:
  prose: {kind: jsonl, paths: [prose.jsonl]}
  sums: {kind: jsonl, paths: [sums.jsonl]}
prepare: {validation_fraction: 0.2}
tokenizer: {kind: byte-level-bpe, vocab_size: 300}
model:
  architecture: llama
  config:
    hidden_size: 32
    intermediate_size: 64
    num_hidden_layers: 2
    num_attention_heads: 4
    max_position_embeddings: 64
    tie_word_embeddings: true
data: {sequence_length: 32, mixture: {prose: 2, sums: 1}, validation_sequences: 5}
optimizer: {kind: adamw, peak_learning_rate: 1e-2}
schedule: {warmup_tokens: 1024}
batch: {global_batch_tokens: 256, micro_batch_sequences: 2}
precision: {dtype: fp32}
train: {train_tokens: 5120, validate_every_steps: 10}
checkpoint: {save_every_steps: 10}
deepspeed: TEMPLATES/zero1.json
"""


@pytest.fixture(scope="session")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run file and its finished data stages."""
    folder = tmp_path_factory.mktemp("tokenized")
    generator = random.Random(1)
    words = [
        "a",
        "small",
        "model",
        "learns",
        "that",
        "one",
        "word",
        "often",
        "follows",
        "another",
        "in",
        "short",
        "texts",
    ]
    prose = [" ".join(generator.choices(words, k=40)) for _ in range(120)]
    sums = [
        " ".join(f"{i} and {j} make {i + j}." for i, j in [(k % 10, k % 7)] * 6) for k in range(120)
    ]
    run_file = tokenize_texts(folder, prose, sums)
    with forking():
        # Kept in data_dir, and copied with it: no run has to build this model again.
        model_facts(load(run_file))
    return folder


def tokenize_texts(folder: Path, prose: list[str], sums: list[str]) -> Path:
    """Write two sources and RUN_FILE into a folder, do the data stages, and return the run file."""
    for name, texts in (("prose", prose), ("sums", sums)):
        (folder / f"{name}.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    run_file = folder / "run.yaml"
    run_file.write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    run_stages(run_file, ["prepare", "train-tokenizer", "tokenize"], [])
    return run_file


@pytest.fixture
def make_run(tokenized: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run file of its own run_dir on the shared data."""

    return lambda name="run", zero="zero1": write_run(tokenized, tmp_path, name, zero)


def write_run(tokenized: Path, folder: Path, name: str = "run", zero: str = "zero1") -> Path:
    """Write a run file of its own run_dir into a folder, beside a copy of the shared data."""
    shutil.copytree(tokenized / "data", folder / "data", dirs_exist_ok=True)
    for source in ("prose", "sums"):
        shutil.copy2(tokenized / f"{source}.jsonl", folder)
    text = RUN_FILE.replace("TEMPLATES/zero1", f"{TEMPLATES}/{zero}").replace(
        "run_dir: run", f"run_dir: {name}"
    )
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def take_batches_at_once(run_file: Path) -> Path:
    """Have each of two ranks take its part of a batch in one micro-batch: half the work, where
    accumulation is nothing to a test."""
    text = run_file.read_text()
    run_file.write_text(text.replace("micro_batch_sequences: 2", "micro_batch_sequences: 4"))
    return run_file


def choose_template(make_run: Callable[..., Path], zero: str) -> tuple[Path, list[str]]:
    """Return a run file of make_run and the overrides that have it use a template, shipped or of
    OFFLOAD."""
    settings = OFFLOAD.get(zero)
    if settings is None:
        return make_run(zero=zero), []
    run_file = make_run()
    template = run_file.with_name(f"{zero}.json")
    template.write_text(json.dumps({"zero_optimization": settings}))
    return run_file, [f"deepspeed={template}"]
