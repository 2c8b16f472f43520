"""Forty mistakes of a user, each with the words that its message must hold: the setting or file,
and the value."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Arrange = Callable[[Path], None]


@dataclass(frozen=True)
class Mistake:
    """What is typed, and what the message has to name."""

    settings: tuple[str, ...]
    named: tuple[str, ...]
    command: str = "run"
    arrange: Arrange | None = None
    """Breaks a file in the folder first."""


def _setting(override: str, *named: str, command: str = "run") -> Mistake:
    """A wrong value of one setting: the message names the setting and `named`, by default the value
    as it was typed."""
    name, _, value = override.partition("=")
    return Mistake((override,), (name, *(named or (value,))), command)


def _file(
    arrange: Arrange, *named: str, settings: tuple[str, ...] = (), command: str = "run"
) -> Mistake:
    return Mistake(settings, named, command, arrange)


def _write(name: str, content: str | bytes) -> Arrange:
    def arrange(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)

    return arrange


def _append(text: str) -> Arrange:
    def arrange(folder: Path) -> None:
        with (folder / "run.yaml").open("a") as file:
            file.write(text)

    return arrange


def _remove(name: str) -> Arrange:
    return lambda folder: (folder / name).unlink()


MISTAKES = {
    "unknown section": Mistake(("optimiser.kind=adamw",), ("optimiser",), "config"),
    "unknown key": _setting("optimizer.learning_rate=1", command="config"),
    "text for a number": _setting("optimizer.peak_learning_rate=fast", command="config"),
    "negative rate": _setting("optimizer.peak_learning_rate=-1", command="config"),
    "unknown optimizer": _setting("optimizer.kind=sophia", command="config"),
    "unknown schedule": _setting("schedule.kind=triangle", command="config"),
    "decay of another schedule": _setting("schedule.decay_tokens=512", command="config"),
    "warm-up beyond the run": _setting(
        "schedule.warmup_tokens=1000000", "schedule.warmup_tokens", command="config"
    ),
    "unknown number format": _setting("precision.dtype=fp8", command="config"),
    "beta beyond 1": _setting("optimizer.beta2=1.5", command="config"),
    "no tokens": _setting("train.train_tokens=0", command="config"),
    "unknown resume": _setting("train.resume=maybe", command="config"),
    "unknown packing": _setting("data.packing=worst-fit", command="config"),
    "sequence of one token": _setting("data.sequence_length=1", command="config"),
    "mixture without a source": _setting(
        "data.mixture={prose: 1}", "data.mixture", "sums", command="config"
    ),
    "mixture of an unknown source": _setting(
        "data.mixture={prose: 1, sums: 1, notes: 1, web: 1}", "web", command="config"
    ),
    "negative weight": _setting(
        "data.mixture={prose: -1, sums: 1, notes: 1}", "prose", "-1", command="config"
    ),
    "batch that does not divide": _setting("batch.global_batch_tokens=100", command="config"),
    "micro-batch that does not divide": _setting("batch.micro_batch_sequences=3", command="config"),
    "time limit that is none": _setting("launch.time_limit=soon", command="config"),
    "port beyond 65535": _setting("launch.master_port=70000", command="config"),
    "unknown launch kind": _setting("launch.kind=kubernetes", command="config"),
    "hostfile without hosts": _setting("launch.kind=hostfile", "launch.hostfile"),
    "unknown source kind": _setting("sources.prose.kind=html", command="config"),
    "fraction of all": _setting("prepare.validation_fraction=1.5", command="config"),
    "unknown tokenizer kind": _setting("tokenizer.kind=wordpiece", command="config"),
    "vocabulary below the bytes": _setting("tokenizer.vocab_size=100", command="config"),
    "template that is not there": _setting("deepspeed=nowhere.json", "nowhere.json"),
    "unset variable in a path": _setting(
        "paths.data_dir=$NO_SUCH_VARIABLE/data",
        "paths.data_dir",
        "NO_SUCH_VARIABLE",
        command="config",
    ),
    "run file that is not there": _file(_remove("run.yaml"), "run.yaml", command="config"),
    "run file that is no YAML": _file(
        _write("run.yaml", "paths: {data_dir"), "run.yaml", command="config"
    ),
    "key twice": _file(
        _append("precision: {dtype: bf16}\n"), "run.yaml", "precision", command="config"
    ),
    "run file that is not UTF-8": _file(
        _write("run.yaml", b"paths: \xff"), "run.yaml", command="config"
    ),
    "misspelt key of a template": _file(
        _write("own.json", '{"gradient_cliping": 1}'),
        "gradient_cliping",
        settings=("deepspeed=own.json",),
    ),
    "batch size in a template": _file(
        _write("own.json", '{"train_batch_size": 8}'),
        "train_batch_size",
        "8",
        settings=("deepspeed=own.json",),
    ),
    "missing source": _file(_remove("prose.jsonl.gz"), "sources.prose", "prose.jsonl.gz"),
    "tokenizer that is not there": _setting(
        "tokenizer={kind: pretrained, path: nowhere}", "nowhere"
    ),
    "task twice": _setting(
        "evaluation.tasks=[patterns, pattern_copy]", "evaluation.tasks", "pattern_copy"
    ),
    "no allocation": _setting("launch.kind=slurm"),
    "ranks that do not divide": _setting("launch.ranks=3"),
    "unknown architecture": _setting("model.architecture=lama"),
    "unknown size": _setting("model.config.hiden_size=16", "hiden_size"),
}
