"""`pipeline benchmark train`: our loop against a plain PyTorch loop, and two ranks against one.

Needs no corpus: writes random tokens to a scratch folder and removes them. Each part is measured in
a fresh process (`train_parts`). On GPUs it also measures model FLOPs utilisation, and compares it
with the GPU's rate in one large matrix product. Writes JSON.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.benchmarks.common import measure_in_rounds, run_python, show_table, write_results
from pipeline.benchmarks.corpora import write_random
from pipeline.config.run_config import RunConfig, round_up_vocabulary
from pipeline.config.run_file import read_preset
from pipeline.config.shipped_files import TEMPLATES
from pipeline.errors import ConfigError
from pipeline.logs import note

PARTS_MODULE = "pipeline.benchmarks.train_parts"
STAGES = ("zero0", "zero1", "zero2", "zero3")
GPU_PRESETS = ("gpt3-125m", "gpt3-1.3b")
CORPUS_TOKENS = 2_000_000
MOST_BATCH_TOKENS = 262_144
"""Largest batch on a GPU: enough for the update to cost little, as in the presets' own batches."""
GPU_STEPS = 3
LEAST_OF_PLAIN = {"zero0": 0.97, "zero1": 0.93}
LEAST_SCALING = 0.85
LEAST_MFU = {"gpt3-125m": 0.45, "gpt3-1.3b": 0.55}
"""Model FLOPs utilisation that the best template has to reach on one H200, by preset."""


def llama(hidden: int, layers: int, vocabulary: int, positions: int) -> dict[str, Any]:
    """Return a section `model`: a Llama with heads of 64 dimensions and tied embeddings."""
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
    }
    sizes |= {"intermediate_size": hidden * 8 // 3 // 32 * 32, "vocab_size": vocabulary}
    return {
        "architecture": "llama",
        "config": {**sizes, "max_position_embeddings": positions, "tie_word_embeddings": True},
    }


@dataclass(frozen=True)
class Work:
    """The settings of a run file that decide the cost of a step."""

    model: Mapping[str, Any]
    sequence_length: int
    micro_batch_sequences: int
    global_batch_tokens: int
    dtype: str = "fp32"
    compile: bool = False
    kind: str = "adamw"

    def write(self, folder: Path, template: str, name: str) -> Path:
        """Write the settings to `name`.json in the corpus's folder, for a part to read."""
        path = folder / f"{name}.json"
        path.write_text(self.config(folder, template).model_dump_json())
        return path

    def config(self, folder: Path, template: str) -> RunConfig:
        """Return the settings of a run on the random corpus in `folder`."""
        return RunConfig.model_validate(
            {
                "paths": {"data_dir": folder, "run_dir": folder / "run"},
                "sources": {"web": {"kind": "jsonl", "paths": [folder]}},
                "tokenizer": {
                    "kind": "byte-level-bpe",
                    "vocab_size": self.model["config"]["vocab_size"],
                },
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
    """How much the training benchmark measures."""

    one: Work
    """Training of one rank, compared with plain PyTorch."""
    scaling: Work
    """Training of each rank, where two ranks are compared with one."""
    templates: Sequence[str] = STAGES
    blocks: int = 8
    block_steps: int = 2
    scaling_steps: int = 2


BUILT_IN = TrainSizes(
    one=Work(llama(256, 4, 4096, 256), 256, 4, 2048),
    scaling=Work(llama(320, 6, 8192, 256), 256, 8, 8192),
)
"""4 million parameters, 2,048 tokens a step; 10 million, 8,192 tokens a step and rank."""


def work_of(config: RunConfig) -> Work:
    """Return a run file's settings, with AdamW: the plain PyTorch loop has no other optimizer."""
    vocabulary = config.model.config.get("vocab_size") or round_up_vocabulary(
        config.tokenizer.vocab_size or 50_257
    )
    return Work(
        {
            "architecture": config.model.architecture,
            "config": {**config.model.config, "vocab_size": vocabulary},
        },
        config.data.sequence_length,
        config.batch.micro_batch_sequences,
        config.batch.global_batch_tokens,
        config.precision.dtype,
        config.train.compile,
    )


def benchmark_train(
    config: RunConfig | None,
    count: int,
    output: Path,
    gpus: int,
    presets: Sequence[str] = (),
    templates: Sequence[str] = (),
    sizes: TrainSizes | None = None,
) -> None:
    """Measure `count` rounds, print tables and write JSON.

    With `config` the run file's model is measured, else built-in ones. On GPUs `presets` and
    `templates` choose models and DeepSpeed templates. Raises ConfigError for a template that is not
    shipped.
    """
    unknown = [name for name in templates if name not in STAGES]
    if unknown:
        raise ConfigError(
            [f"--template {name}: is none of {', '.join(STAGES)}" for name in unknown]
        )
    works = {} if config is None else {"the run file": work_of(config)}
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as scratch:
        folder = Path(scratch)
        if gpus:
            works = works or {name: preset_work(name) for name in presets or GPU_PRESETS}
            _on_gpu(works, templates or STAGES, folder, count, output)
        else:
            sizes = sizes or (
                TrainSizes(works["the run file"], works["the run file"]) if works else BUILT_IN
            )
            write_results(output, _on_cpu(sizes, folder, count))


def preset_work(name: str) -> Work:
    """Return a shipped preset's settings as measured on a GPU: bf16 and compiled.

    The batch is the preset's, at most MOST_BATCH_TOKENS tokens.
    """
    preset = read_preset(name)
    vocabulary = round_up_vocabulary(50_257)
    length = preset["data"]["sequence_length"]
    model = {**preset["model"], "config": {**preset["model"]["config"], "vocab_size": vocabulary}}
    batch = min(preset["batch"]["global_batch_tokens"], MOST_BATCH_TOKENS)
    return Work(
        model, length, preset["batch"]["micro_batch_sequences"], batch, "bf16", compile=True
    )


def _part(name: str, on_cpu: bool = True, **arguments: Any) -> Callable[[], Mapping[str, Any]]:
    given = json.dumps(
        {key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()}
    )
    environment = {"DS_ACCELERATOR": "cpu"} if on_cpu else {}
    return lambda: run_python(PARTS_MODULE, name, given, environment=environment).result


def _corpus(folder: Path, name: str, work: Work) -> Path:
    corpus = folder / name.replace(" ", "-")
    if not corpus.exists():
        write_random(corpus, CORPUS_TOKENS, 800, min(work.model["config"]["vocab_size"], 50_257))
    return corpus


def _on_cpu(sizes: TrainSizes, folder: Path, count: int) -> dict[str, Any]:
    corpus = _corpus(folder, "one", sizes.one)
    files = {template: sizes.one.write(corpus, template, template) for template in sizes.templates}
    turns = measure_in_rounds(
        count,
        {
            template: _part(
                "turns", config=path, blocks=sizes.blocks, block_steps=sizes.block_steps
            )
            for template, path in files.items()
        },
    )
    note("benchmark: which part of a step takes which time")
    shares = {
        template: dict(_part("shares", config=path, steps=4)()) for template, path in files.items()
    }
    corpus = _corpus(folder, "scaling", sizes.scaling)
    scaling: dict[str, Callable[[], Mapping[str, float]]] = {}
    for ranks in (1, 2):
        global_batch_tokens = sizes.scaling.global_batch_tokens * ranks
        work = replace(sizes.scaling, global_batch_tokens=global_batch_tokens)
        path = work.write(corpus, "zero1", f"ranks-{ranks}")
        scaling[f"{ranks} ranks"] = _part(
            "ranks", config=path, count=ranks, steps=sizes.scaling_steps
        )
    rates = measure_in_rounds(count, scaling)
    efficiency = rates["2 ranks"]["tokens_per_second"] / (2 * rates["1 ranks"]["tokens_per_second"])
    limits = {
        f"{t} of plain PyTorch": (turns[t]["ratio"], least)
        for t, least in LEAST_OF_PLAIN.items()
        if t in turns
    }
    limits["2 ranks of twice 1 rank"] = (efficiency, LEAST_SCALING)
    _show_cpu(turns, shares, rates, efficiency, count)
    return {"rounds": count, "turns": turns, "shares": shares, "scaling": rates} | _limits(limits)


def _on_gpu(
    works: Mapping[str, Work], templates: Sequence[str], folder: Path, count: int, output: Path
) -> None:
    """Measure every template, the GPU's matrix product, and plain PyTorch on the same machine."""
    matmul = dict(_part("matmul", on_cpu=False)())
    results: dict[str, Any] = {"rounds": count, "matmul": matmul, "rates": {}}
    limits: dict[str, tuple[float, float]] = {}
    for name, work in works.items():
        corpus = _corpus(folder, name, work)
        # ZeRO 0 is for fp32 only.
        chosen = [t for t in templates if t != "zero0" or work.dtype == "fp32"]
        files = {template: work.write(corpus, template, template) for template in chosen}
        parts = {
            t: _part("rate", False, config=path, is_plain=False, steps=GPU_STEPS)
            for t, path in files.items()
        }
        parts["plain"] = _part(
            "rate", False, config=files[chosen[0]], is_plain=True, steps=GPU_STEPS
        )
        found: dict[str, dict[str, Any]] = dict(measure_in_rounds(count, parts))
        for side in found.values():
            side["flops"] = side["tokens_per_second"] * side["flops_per_token"]
            side["mfu"] = side["flops"] / matmul["peak_flops"] if matmul["peak_flops"] else None
        _show_gpu(name, work, found, matmul)
        results["rates"][name] = found
        if matmul["peak_flops"] and name in LEAST_MFU:
            limits[f"{name}: MFU"] = (
                max(found[template]["mfu"] for template in chosen),
                LEAST_MFU[name],
            )
        write_results(output, results)
    write_results(output, results | _limits(limits))


def _show_gpu(
    name: str, work: Work, found: Mapping[str, Mapping[str, Any]], matmul: Mapping[str, Any]
) -> None:
    plain = found["plain"]["tokens_per_second"]
    show_table(
        f"{name}, {work.sequence_length:,} tokens, {work.dtype}, {work.micro_batch_sequences} "
        "sequences at a time, "
        f"{work.global_batch_tokens:,} tokens a step; FLOPs: 6 N + 6 L d T a token (causal "
        "attention); a "
        f"{matmul['size']}^3 product: {matmul['flops'] / 1e12:.0f} TFLOP/s",
        ("", "tokens/s", "MFU", "of the product", "of plain", "GiB", "first step, s"),
        [
            (
                side,
                f"{f['tokens_per_second']:,.0f}",
                "unknown peak" if f["mfu"] is None else f"{f['mfu']:.1%}",
                f"{f['flops'] / matmul['flops']:.1%}",
                f"{f['tokens_per_second'] / plain:.3f}",
                f"{f['peak_gib']:.1f}",
                f"{f['first_step_seconds']:.0f}",
            )
            for side, f in found.items()
        ],
    )


def _limits(found: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    show_table(
        "Limits",
        ("", "measured", "at least", ""),
        [
            (n, f"{m:.3f}", f"{least}", "met" if m >= least else "MISSED")
            for n, (m, least) in found.items()
        ],
    )
    return {
        "limits": {
            n: {"measured": m, "at_least": least, "met": m >= least}
            for n, (m, least) in found.items()
        }
    }


def _show_cpu(
    turns: Mapping[str, Any],
    shares: Mapping[str, Any],
    rates: Mapping[str, Any],
    efficiency: float,
    count: int,
) -> None:
    show_table(
        f"One rank and a plain PyTorch loop in turns, medians of {count} rounds",
        ("", "tokens/s", "plain, tokens/s", "of plain", "lowest block", "highest"),
        [
            (
                template,
                f"{t['ours']:,.0f}",
                f"{t['plain']:,.0f}",
                *(f"{t[key]:.3f}" for key in ("ratio", "lowest_ratio", "highest_ratio")),
            )
            for template, t in turns.items()
        ],
    )
    parts = [
        (f"{template}, {side}", sum(seconds.values()), part, value)
        for template, sides in shares.items()
        for side, seconds in sides.items()
        for part, value in seconds.items()
    ]
    show_table(
        "Where the time of a step goes",
        ("", "part", "ms", "share"),
        [
            (who, part, f"{value * 1e3:.1f}", f"{value / total:.1%}")
            for who, total, part, value in parts
        ],
    )
    show_table(
        "Ranks, each on a core of its own",
        ("", "tokens/s", "of ideal"),
        [
            ("1 rank", f"{rates['1 ranks']['tokens_per_second']:,.0f}", ""),
            ("2 ranks", f"{rates['2 ranks']['tokens_per_second']:,.0f}", f"{efficiency:.3f}"),
        ],
    )
