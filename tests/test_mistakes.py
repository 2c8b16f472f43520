"""The mistakes a user makes: one clear message with the remedy, exit code 2, and nothing that a
later run takes for done."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from facts_by_hand import facts_of_no_model

from pipeline.cli import commands
from pipeline.cluster.ports import is_occupied
from pipeline.config.run_file import load
from pipeline.errors import UserError
from pipeline.store.artifacts import stage_states
from pipeline.store.stages import STAGES
from pipeline.work import separate_checks

Break = Callable[[Path], list[str]]


def missing_source(folder: Path) -> list[str]:
    (folder / "web.jsonl").unlink()
    return []


def truncated_zst(folder: Path) -> list[str]:
    whole = zstandard.compress((folder / "web.jsonl").read_bytes())
    (folder / "cut.jsonl.zst").write_bytes(whole[: len(whole) // 2])
    return ["sources.web.paths=[cut.jsonl.zst]"]


def wrong_template(**keys: object) -> Break:
    def write(folder: Path) -> list[str]:
        (folder / "zero1.json").write_text(json.dumps({"zero_optimization": {"stage": 1}, **keys}))
        return []

    return write


def settings(*overrides: str) -> Break:
    return lambda folder: list(overrides)


def wrong_tokenizer(name: str, content: bytes) -> Break:
    def write(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return [f"tokenizer={{kind: pretrained, path: {name}}}"]

    return write


def compared_tokenizer(content: bytes) -> Break:
    def write(folder: Path) -> list[str]:
        (folder / "other.json").write_bytes(content)
        return ["tokenizer.compare=[other.json]"]

    return write


MISTAKES: dict[str, tuple[Break, str]] = {
    "unknown key": (
        settings("optimizer.learning_rate=1"),
        "optimizer.learning_rate: unknown key; did you mean",
    ),
    "batch that does not divide": (settings("batch.global_batch_tokens=33"), "set 32 or 40"),
    "micro-batch that does not divide": (
        settings("batch.micro_batch_sequences=3"),
        "must divide the 4 sequences",
    ),
    "ranks that do not divide": (
        settings("launch.ranks=3"),
        "launch.ranks = 3 x batch.micro_batch_sequences = 2: must divide",
    ),
    "missing source": (missing_source, "web.jsonl"),
    "truncated zst": (truncated_zst, "Replace or remove a broken file"),
    "small vocabulary": (
        settings("model.config.vocab_size=128"),
        "make the model's at least as large",
    ),
    "missing tokenizer": (
        settings("tokenizer={kind: pretrained, path: nowhere}"),
        "nowhere: does not exist; set it to a",
    ),
    "tokenizer that is none": (
        wrong_tokenizer("x.json", b"{}"),
        "x.json is not a tokenizer of the tokenizers library",
    ),
    "SentencePiece model that is none": (
        wrong_tokenizer("x.model", b"x"),
        "x.model: is not a SentencePiece model",
    ),
    "split pattern of another kind": (
        settings("tokenizer.split_pattern=spaces"),
        "kind byte-level-bpe takes single-digits or gpt2 or cl100k",
    ),
    "misspelt DeepSpeed key": (
        wrong_template(gradient_cliping=1),
        "did you mean gradient_clipping?",
    ),
    "batch size in the template": (
        wrong_template(train_batch_size=8),
        "set batch.global_batch_tokens in the run YAML",
    ),
    "compared tokenizer that is none": (
        compared_tokenizer(b'{"model": 1}'),
        "other.json is not a tokenizer",
    ),
    "ranks that an allocation would need": (
        settings("launch.kind=slurm"),
        "launch.kind = slurm: this process is in no Slurm job",
    ),
    "task folder that is none": (
        settings("evaluation.task_paths=[tasks]"),
        "evaluation.task_paths: ",
    ),
    "task twice": (
        settings("evaluation.tasks=[patterns, pattern_copy]"),
        "pattern_copy is a part of patterns",
    ),
    "unknown architecture's sizes": (settings("model.config=5"), "model.config"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_and_leaves_nothing_done(
    run_file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_file.parent)
    facts = facts_of_no_model()
    monkeypatch.setattr(
        separate_checks, "_ask", lambda *_: [{"problems": [], "facts": facts}]
    )  # the model is right
    break_it, expected = MISTAKES[name]
    with pytest.raises(UserError, match=re.escape(expected)) as told:
        commands.run_all(STAGES, run_file, ["executor.workers=1", *break_it(run_file.parent)])
    assert told.value.exit_code == 2
    assert_nothing_is_done(run_file)


def assert_nothing_is_done(run_file: Path) -> None:
    assert not list(run_file.parent.rglob("manifest.json"))
    config = load(run_file)
    table = {stage.name: stage for stage in STAGES if stage.is_asked(config)}
    assert "train" in table
    assert {state.kind for state in stage_states(table, config).values()} == {"missing"}


def pipeline(run_file: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipeline", *arguments]
    environment = {**os.environ, "CI": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, cwd=run_file.parent, env=environment
    )


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("command", "mistake", "expected"),
    [
        ("run", "deepspeed=nowhere.json", "nowhere.json: cannot read"),
        ("prepare", "model.config.hiden_size=16", "did you mean hidden_size?"),
    ],
)
def test_the_command_line_shows_it_with_exit_code_2_and_no_traceback(
    run_file: Path, command: str, mistake: str, expected: str
) -> None:
    ended = pipeline(run_file, command, str(run_file), "executor.workers=1", mistake)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert expected in ended.stderr
    assert_nothing_is_done(run_file)


def test_an_occupied_port_is_refused_before_anything_starts(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        assert is_occupied(port)
        with pytest.raises(UserError, match=rf"launch\.master_port = {port}") as told:
            commands.run_all(STAGES, run_file, ["executor.workers=1", f"launch.master_port={port}"])
    assert told.value.exit_code == 2
    assert_nothing_is_done(run_file)
    assert not is_occupied(port)
