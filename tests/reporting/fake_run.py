"""Writes a finished run's manifests and metrics, as the stages leave them, without running one."""

import json
import math
from pathlib import Path
from typing import Any

from helpers import write_byte_level_tokenizer, write_documents

from pipeline.config.run_config import RunConfig
from pipeline.store.manifests.recorded_settings import flatten

ENVIRONMENT = {
    "command": "pipeline run <b>run.yaml</b>",
    "python": "3.11.0",
    "platform": "Linux",
    "versions": {"torch": "2.13.0"},
    "git": {"commit": "0123abcd", "dirty": True},
}


def write_fake_run(
    config: RunConfig,
    steps: int = 195,
    cloze: float = 0.51,
    loss: float = 4.0,
    mfu: float | None = None,
) -> None:
    """Write every manifest and metrics.jsonl below the config's folders; the last loss is `loss`,
    the entropy is 5."""
    sources = list(config.sources)
    tokens = {
        split: {"documents": count, "tokens": 300 * count, "text_bytes": 1000 * count}
        for split, count in (("train", 96), ("validation", 4))
    }
    write = _writer(config)
    write(
        config.paths.data_dir / "documents",
        {
            name: {
                "documents": {"train": 96 * (place + 1), "validation": 4},
                "text_bytes": {"train": 96_000 * (place + 1), "validation": 4_000},
                "rejected": {"empty": 2},
                "input_files": 1,
                "broken_files": {},
            }
            for place, name in enumerate(sources)
        },
        12.3,
    )
    for name in sources:
        write_documents(config.paths.data_dir, name, "validation", ["ab ab <b>é</b>"])
    write_byte_level_tokenizer(config.paths.data_dir / "tokenizer")
    write(config.paths.data_dir / "tokenizer", {"vocab_size": 259}, 20.0, wrap=False)
    write(config.paths.data_dir / "tokens", dict.fromkeys(sources, tokens), 3.2)
    outlook = {
        "share": 0.5,
        "samples": 4321,
        "epochs": 1.25,
        "cut_documents": None,
        "padding": 0.0123,
    }
    by_source = {name: loss + place / 10 for place, name in enumerate(sources)}
    train = {
        "step": steps,
        "tokens": 8192 * steps,
        "parameters": 3_443_136,
        "loss": loss,
        "validation_loss": loss,
        "validation_loss_by_source": by_source,
        "validation_bits_per_byte": 2.5,
        "validation_bits_per_byte_by_source": dict.fromkeys(sources, 2.5),
        "mfu": mfu,
        "unigram_entropy": 5.0,
        "unigram_entropy_by_source": dict.fromkeys(sources, 5.0),
        "ranks": 2,
        "zero_stage": 1,
        "device": "cpu",
        "tokens_per_second": 9100.0,
        "checkpoint": f"step_{steps:08d}",
        "data": {"packing": "concatenate", "sources": dict.fromkeys(sources, outlook)},
    }
    write(config.paths.run_dir / "checkpoints", train, 181.0, wrap=False)
    export = {
        "step": steps,
        "folder": f"step_{steps:08d}",
        "parameters": 3_443_136,
        "dtype": "float32",
        "max_logit_difference": 2e-6,
        "prompt": "The function returns",
        "continuation": " a <script>list</script> & more",
    }
    write(config.paths.run_dir / "export", export, 4.0, wrap=False)
    scores = [
        {
            "task": task,
            "shots": k,
            "seed": 1234,
            "metric": metric,
            "value": value,
            "standard_error": error,
            "items": 200,
            "chance": chance,
            "uniform": None,
        }
        for k in config.evaluation.own_shots
        for task, metric, value, error, chance in (
            ("heldout_cloze", "acc", 0.27, 0.031, 0.25),
            ("heldout_cloze", "acc_mutual_info", cloze, 0.035, 0.25),
            ("pattern_copy", "acc", 0.4, 0.05, 0.25),
            ("pattern_copy", "acc_mutual_info", 0.3, 0.05, 0.25),
            ("another_task", "exact_match", 0.1, None, None),
        )
    ]
    bits = {name: {"value": 2.0 + place, "bytes": 50_000} for place, name in enumerate(sources)}
    evaluation = {
        "model": f"step_{steps:08d}",
        "models": [f"step_{steps:08d}"],
        "scores": scores,
        "bits_per_byte": bits,
        "harness": "0.4.13",
    }
    write(config.paths.run_dir / "evaluation", evaluation, 55.0, wrap=False)
    _write_metrics(config.paths.run_dir / "metrics.jsonl", steps, loss, by_source, mfu)


def _writer(config: RunConfig) -> Any:
    def write(folder: Path, counts: dict[str, Any], seconds: float, wrap: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {
            "stage": folder.name,
            "seconds": seconds,
            "finished": "2026-01-02T03:04:05+0000",
            "output": f"output of {folder.name}",
            "inputs": flatten(config.model.model_dump(mode="json"), "model"),
            "counts": {"headline": f"made {folder.name}"}
            | ({"sources": counts} if wrap else counts),
            "environment": ENVIRONMENT,
            "files": {"file": {"bytes": 1234, "checksum": "0"}},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return write


def _write_metrics(
    path: Path, steps: int, loss: float, by_source: dict[str, float], mfu: float | None
) -> None:
    rows = []
    for step in range(1, steps + 1):
        above = 4.3 * math.exp(-step / 40) + 0.05 * math.sin(step * 1.7)
        row = {
            "step": step,
            "tokens": 8192 * step,
            "loss": loss + above,
            "grad_norm": 1.0,
            "learning_rate": 3e-3 * min(step / 12, 0.55 + 0.45 * math.cos(math.pi * step / steps)),
            "tokens_per_second": 9100 + 300 * math.sin(step),
            "mfu": mfu,
            "step_seconds": 0.9,
            "data_wait_seconds": 0.01,
        }
        if step % 50 == 0 or step == steps:
            row["validation_loss"] = loss + (above if step < steps else 0)
            row["validation_loss_by_source"] = {
                name: value + row["validation_loss"] - loss for name, value in by_source.items()
            }
        rows.append(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
