"""`pipeline benchmark train`: our loop against a plain PyTorch loop, and two ranks against one.

Needs no corpus: writes random tokens to a scratch folder and removes them. Each part is measured in
a fresh process (`measure_train`). On GPUs it also measures model FLOPs utilisation, and compares it
with the GPU's rate in one large matrix product. Writes JSON.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from pipeline.benchmarks.common import (
    Measurement,
    measure_in_rounds,
    run_python,
    write_results,
)
from pipeline.benchmarks.corpora import write_random
from pipeline.benchmarks.train_results import (
    LEAST_MFU,
    LEAST_OF_PLAIN,
    LEAST_SCALING,
    ONE_RANK,
    PLAIN,
    TWO_RANKS,
    CpuFigures,
    GpuResults,
    Limits,
    MatrixProduct,
    check_limits,
    gpu_speed,
    scaling_efficiency,
    show_cpu_figures,
    show_gpu_speeds,
)
from pipeline.config.run_config import RunConfig, round_up_vocabulary
from pipeline.config.run_file import read_preset
from pipeline.config.shipped_files import TEMPLATES
from pipeline.errors import ConfigError
from pipeline.logs import note
from pipeline.store.records import Json

MEASURING_MODULE = "pipeline.benchmarks.measure_train"
ON_CPU = {"DS_ACCELERATOR": "cpu"}
"""Environment in which DeepSpeed uses no GPU."""
STAGES = ("zero0", "zero1", "zero2", "zero3")
GPU_PRESETS = ("gpt3-125m", "gpt3-1.3b")
GPT2_IDS = 50_257
"""Ids of the tokenizer that the presets' vocabulary is made for."""
CORPUS_TOKENS = 2_000_000
MEAN_DOCUMENT = 800
MOST_BATCH_TOKENS = 262_144
"""Maximum batch on a GPU: enough for the update to cost little, as in the presets' own batches."""
GPU_STEPS = 3
"""Timed steps of each measurement on a GPU."""
SHARES_STEPS = 4
"""Timed steps for the parts of a step."""


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
        path.write_text(self.config(folder, template).model_dump_json())
        return path

    def config(self, folder: Path, template: str) -> RunConfig:
        """Return the settings of a run on the random corpus in `folder`."""
        return RunConfig.model_validate(
            {
                "paths": {"data_dir": folder, "run_dir": folder / "run"},
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


@dataclass(frozen=True)
class TrainSizes:
    """How much the training benchmark measures on CPUs."""

    one: StepSettings
    """Training of one rank, compared with plain PyTorch."""
    scaling: StepSettings
    """Training of each rank, where two ranks are compared with one."""
    templates: Sequence[str] = STAGES
    blocks: int = 8
    """Timed blocks of steps of each loop."""
    block_steps: int = 2
    scaling_steps: int = 2
    """Timed steps of one and of two ranks."""


BUILT_IN = TrainSizes(
    one=StepSettings(llama_section(256, 4, 4096, 256), 256, 4, 2048),
    scaling=StepSettings(llama_section(320, 6, 8192, 256), 256, 8, 8192),
)
"""4 million parameters, 2,048 tokens a step; 10 million, 8,192 tokens a step and rank."""


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


def benchmark_train(
    config: RunConfig | None,
    count: int,
    output: Path,
    gpus: int,
    presets: Sequence[str] = (),
    templates: Sequence[str] = (),
    sizes: TrainSizes = BUILT_IN,
) -> None:
    """Measure `count` rounds, print tables and write JSON.

    With `config` the run file's model is measured, else `presets` on GPUs and `sizes` on CPUs. On
    GPUs `templates` chooses DeepSpeed templates. Raises ConfigError for a template that is not
    shipped.
    """
    unknown = [name for name in templates if name not in STAGES]
    if unknown:
        raise ConfigError(
            [f"--template {name}: is none of {', '.join(STAGES)}" for name in unknown]
        )
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as scratch:
        folder = Path(scratch)
        if gpus:
            models = _gpu_models(config, presets or GPU_PRESETS)
            _measure_on_gpu(models, templates or STAGES, folder, count, output)
            return
        if config is not None:
            settings = settings_of_run_file(config)
            sizes = TrainSizes(settings, settings)
        figures = _measure_on_cpu(sizes, folder, count)
        show_cpu_figures(figures)
        write_results(output, {**figures, "limits": check_limits(_cpu_limits(figures))})


def _gpu_models(config: RunConfig | None, presets: Sequence[str]) -> dict[str, StepSettings]:
    """Return the models to measure on a GPU, by name."""
    if config is not None:
        return {"the run file": settings_of_run_file(config)}
    return {name: settings_of_preset(name) for name in presets}


def _part(name: str, path: Path, **arguments: float) -> Measurement:
    """Return the measurement by a function of `measure_train`, on CPUs.

    `path`: file that `StepSettings.write` has written.
    """
    as_json = json.dumps({"config": str(path), **arguments})
    return lambda: run_python(MEASURING_MODULE, name, as_json, variables=ON_CPU).measured


def _gpu_rate(path: Path, is_plain: bool) -> Measurement:
    """Return the measurement of one loop's rate, on a GPU."""
    as_json = json.dumps({"config": str(path), "is_plain": is_plain, "steps": GPU_STEPS})
    return lambda: run_python(MEASURING_MODULE, "measure_rate", as_json).measured


def _random_corpus(folder: Path, name: str, settings: StepSettings) -> Path:
    """Write a corpus of random tokens unless it exists; return its folder."""
    corpus = folder / name.replace(" ", "-")
    if not corpus.exists():
        write_random(corpus, CORPUS_TOKENS, MEAN_DOCUMENT, min(settings.vocab_size, GPT2_IDS))
    return corpus


def _measure_on_cpu(sizes: TrainSizes, folder: Path, count: int) -> CpuFigures:
    # Our loop and the plain one, for each ZeRO stage.
    corpus = _random_corpus(folder, "one", sizes.one)
    files = {template: sizes.one.write(corpus, template, template) for template in sizes.templates}
    turns = measure_in_rounds(
        count,
        {
            template: _part(
                "measure_turns", path, blocks=sizes.blocks, block_steps=sizes.block_steps
            )
            for template, path in files.items()
        },
    )

    # The parts of a step, measured once.
    note("benchmark: which part of a step takes which time")
    shares = {template: _measure_shares(path) for template, path in files.items()}

    # One and two ranks, whose batch grows with them.
    corpus = _random_corpus(folder, "scaling", sizes.scaling)
    ranks: dict[str, Measurement] = {}
    for name, rank_count in ((ONE_RANK, 1), (TWO_RANKS, 2)):
        global_batch_tokens = sizes.scaling.global_batch_tokens * rank_count
        settings = replace(sizes.scaling, global_batch_tokens=global_batch_tokens)
        path = settings.write(corpus, "zero1", f"ranks-{rank_count}")
        ranks[name] = _part("measure_ranks", path, count=rank_count, steps=sizes.scaling_steps)
    scaling = measure_in_rounds(count, ranks)
    return {"rounds": count, "turns": turns, "shares": shares, "scaling": scaling}


def _measure_shares(path: Path) -> dict[str, dict[str, float]]:
    """Return the seconds of each part of a step, for both loops."""
    as_json = json.dumps({"config": str(path), "steps": SHARES_STEPS})
    return run_python(MEASURING_MODULE, "measure_parts_of_step", as_json, variables=ON_CPU).measured


def _cpu_limits(figures: CpuFigures) -> Limits:
    turns = figures["turns"]
    efficiency = scaling_efficiency(figures["scaling"])
    limits = {
        f"{template} of plain PyTorch": (turns[template]["ratio"], least)
        for template, least in LEAST_OF_PLAIN.items()
        if template in turns
    }
    return limits | {"2 ranks of twice 1 rank": (efficiency, LEAST_SCALING)}


def _measure_on_gpu(
    models: Mapping[str, StepSettings],
    templates: Sequence[str],
    folder: Path,
    count: int,
    output: Path,
) -> None:
    """Measure every template and plain PyTorch, and the same GPU's matrix product.

    Writes the results after each model.
    """
    product: MatrixProduct = run_python(MEASURING_MODULE, "measure_matrix_product", "{}").measured
    results: GpuResults = {"rounds": count, "matmul": product, "rates": {}}
    limits: Limits = {}
    for name, settings in models.items():
        corpus = _random_corpus(folder, name, settings)
        # ZeRO 0 is for fp32 only.
        chosen = [each for each in templates if each != "zero0" or settings.dtype == "fp32"]
        files = {template: settings.write(corpus, template, template) for template in chosen}
        parts = {template: _gpu_rate(path, is_plain=False) for template, path in files.items()}
        parts[PLAIN] = _gpu_rate(files[chosen[0]], is_plain=True)
        speeds = {
            loop: gpu_speed(figures, product)
            for loop, figures in measure_in_rounds(count, parts).items()
        }
        show_gpu_speeds(_gpu_title(name, settings), speeds, product)
        results["rates"][name] = speeds

        # The best template is compared with the limit, where the GPU's peak is known.
        utilisations = [
            speed["mfu"]
            for loop, speed in speeds.items()
            if loop != PLAIN and speed["mfu"] is not None
        ]
        if utilisations and name in LEAST_MFU:
            limits[f"{name}: MFU"] = (max(utilisations), LEAST_MFU[name])
        write_results(output, results)
    write_results(output, {**results, "limits": check_limits(limits)})


def _gpu_title(name: str, settings: StepSettings) -> str:
    return (
        f"{name}, {settings.sequence_length:,} tokens, {settings.dtype}, "
        f"{settings.micro_batch_sequences} sequences at a time, "
        f"{settings.global_batch_tokens:,} tokens a step"
    )
