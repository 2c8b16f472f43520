"""The settings that decide the cost of a step: of built-in sizes, of a run file, of a preset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pipeline.benchmarks.corpora import write_random
from pipeline.config.run_config import RunConfig, round_up_vocabulary
from pipeline.config.run_file import read_preset
from pipeline.config.shipped_files import TEMPLATES
from pipeline.store.records import Json

MEASURING_MODULE = "pipeline.benchmarks.training.measure_train"
"""Program that measures one part in a process of its own."""
ON_CPU = {"DS_ACCELERATOR": "cpu"}
"""Environment in which DeepSpeed uses no GPU."""
CORPUS_TOKENS = 2_000_000
MEAN_DOCUMENT = 800
GPT2_IDS = 50_257
"""Ids of GPT-2's tokenizer, which the presets' vocabulary is made for."""
MOST_BATCH_TOKENS = 262_144
"""Maximum batch on a GPU: enough for the update to cost little, as in the presets' own batches."""


class ModelSection(TypedDict):
    """The section `model` of a run file."""

    architecture: str | None
    config: Mapping[str, Json]


def llama_section(hidden: int, layers: int, vocabulary: int, positions: int) -> ModelSection:
    """Return a section `model`: a Llama with heads of 64 dimensions and tied embeddings."""
    return {
        "architecture": "llama",
        "config": {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden // 64,
            "intermediate_size": hidden * 8 // 3 // 32 * 32,
            "vocab_size": vocabulary,
            "max_position_embeddings": positions,
            "tie_word_embeddings": True,
        },
    }


@dataclass(frozen=True)
class StepSettings:
    """The settings of a run file that decide the cost of a step."""

    model: ModelSection
    sequence_length: int
    micro_batch_sequences: int
    global_batch_tokens: int
    dtype: str = "fp32"
    compile: bool = False
    kind: str = "adamw"
    """`optimizer.kind`."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        size = self.model["config"]["vocab_size"]
        assert isinstance(size, int), "every section of this module names it"
        return size

    def write(self, folder: Path, template: str, name: str) -> Path:
        """Write the settings to `name`.json in the corpus's folder, for `measure_train` to read."""
        path = folder / f"{name}.json"
        path.write_text(self.config(folder, template, f"run-{name}").model_dump_json())
        return path

    def config(self, folder: Path, template: str, run: str = "run") -> RunConfig:
        """Return the settings of a run on the random corpus in `folder`, in its folder `run`."""
        return RunConfig.model_validate(
            {
                "paths": {"data_dir": folder, "run_dir": folder / run},
                "sources": {"web": {"kind": "jsonl", "paths": [folder]}},
                "tokenizer": {"kind": "byte-level-bpe", "vocab_size": self.vocab_size},
                "model": self.model,
                "data": {"sequence_length": self.sequence_length},
                "optimizer": {"kind": self.kind, "peak_learning_rate": 1e-4},
                "schedule": {"warmup_tokens": 0},
                "batch": {
                    "global_batch_tokens": self.global_batch_tokens,
                    "micro_batch_sequences": self.micro_batch_sequences,
                },
                "precision": {"dtype": self.dtype},
                "train": {"train_tokens": 10**12, "compile": self.compile},
                "deepspeed": TEMPLATES / f"{template}.json",
            }
        )


def settings_of_run_file(config: RunConfig) -> StepSettings:
    """Return a run file's settings, with AdamW: the plain PyTorch loop has no other optimizer."""
    vocabulary = config.model.config.get("vocab_size")
    if vocabulary is None:
        vocabulary = round_up_vocabulary(config.tokenizer.vocab_size or GPT2_IDS)
    model: ModelSection = {
        "architecture": config.model.architecture,
        "config": {**config.model.config, "vocab_size": vocabulary},
    }
    return StepSettings(
        model,
        config.data.sequence_length,
        config.batch.micro_batch_sequences,
        config.batch.global_batch_tokens,
        config.precision.dtype,
        config.train.compile,
    )


def settings_of_preset(name: str) -> StepSettings:
    """Return a shipped preset's settings as measured on a GPU: bf16 and compiled.

    The batch is the preset's, at most MOST_BATCH_TOKENS tokens.
    """
    preset = read_preset(name)
    model: ModelSection = preset["model"]
    vocabulary = round_up_vocabulary(GPT2_IDS)
    return StepSettings(
        {**model, "config": {**model["config"], "vocab_size": vocabulary}},
        preset["data"]["sequence_length"],
        preset["batch"]["micro_batch_sequences"],
        min(preset["batch"]["global_batch_tokens"], MOST_BATCH_TOKENS),
        "bf16",
        compile=True,
    )


def random_corpus(folder: Path, name: str, settings: StepSettings) -> Path:
    """Write a corpus of random tokens unless it exists; return its folder."""
    corpus = folder / name.replace(" ", "-")
    if not corpus.exists():
        write_random(corpus, CORPUS_TOKENS, MEAN_DOCUMENT, min(settings.vocab_size, GPT2_IDS))
    return corpus
