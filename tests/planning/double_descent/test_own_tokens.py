"""Random features on a run's own tokens: read from its data, refused where they are too few or gone."""

from pathlib import Path

import numpy as np
import pytest
from token_rules import ruled_tokens
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError, RequirementError
from pipeline.planning.double_descent.own_tokens import own_context_task
from pipeline.store.files import write_json
from pipeline.tokens.indexed_dataset import ShardWriter


def run_with_tokens(folder: Path, tokens: dict[str, np.ndarray]) -> RunConfig:
    """Return a run whose sources have these training tokens."""
    files = {}
    for source, ids in tokens.items():
        prefix = folder / "data" / "tokens" / source / "train_0"
        with ShardWriter(prefix, np.dtype(np.uint16)) as writer:
            writer.add(ids, np.array([len(ids)]), np.arange(1))
            files |= {f"{source}/train_0{end}": file for end, file in writer.finish().items()}
    counts = {"dtypes": dict.fromkeys(tokens, "uint16")}
    manifest = {"files": files, "counts": counts, "output": "x"}
    write_json(folder / "data" / "tokens" / "manifest.json", manifest)
    return run_without_tokens(folder)


def run_without_tokens(folder: Path) -> RunConfig:
    run_file = folder / "run.yaml"
    run_file.write_text(RUN_FILE.replace("TEMPLATES", str(TEMPLATES)))
    return load(run_file)


def test_all_sources_are_read(tmp_path: Path) -> None:
    tokens = {"prose": 7 + ruled_tokens(20_000, seed=1), "sums": 7 + ruled_tokens(20_000, seed=2)}
    task = own_context_task(run_with_tokens(tmp_path, tokens), samples=200)
    contexts = {
        tuple(ids[place : place + 4]) for ids in tokens.values() for place in range(20_000 - 4)
    }
    assert task.vocabulary == 8
    assert len(task.contexts) == len(contexts) > 3000


def test_text_with_few_contexts_is_refused(tmp_path: Path) -> None:
    tokens = {"prose": np.arange(400) % 8, "sums": np.zeros(5, int)}
    with pytest.raises(RequirementError) as refused:
        own_context_task(run_with_tokens(tmp_path, tokens), samples=200)
    assert str(refused.value) == (
        "random features: the 8 most frequent ids of the training text make 9 different contexts of 4, "
        "and 200 samples need at least 400; add text"
    )


def test_missing_tokens_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished tokens"):
        own_context_task(run_without_tokens(tmp_path), samples=200)
