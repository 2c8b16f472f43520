"""The command `lm_eval run` and this package score the same: every metric to its last digit.

Questions: PIPELINE_TEST_TASKS, a folder that `pipeline tasks fetch` wrote, with the file of
lambada_openai. Models: a random one that reads bytes, and that of PIPELINE_TEST_MODEL, for example
what `smollm2.py` makes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from byte_model import byte_model, byte_tokenizer
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from pipeline.config.run_file import load
from pipeline.evaluation.cells import Cell, read_cell
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.known_tasks import build_tasks
from pipeline.evaluation.task_data.catalogue import CATALOGUE
from pipeline.evaluation.task_data.split_choice import KEYS
from pipeline.evaluation.task_data.stored_tasks import COLLECTION
from pipeline.store.environment import user_variable
from pipeline.store.scores_folder import FIRST_SEED, ScoresFolder
from pipeline.store.tasks_folder import TasksFolder

WHOLE = ("copa", "openbookqa", "piqa", "arc_easy", "winogrande", "sciq", "boolq")
WHOLE += ("lambada_openai", "mmlu_anatomy")
REAL = ("hellaswag", "piqa", "arc_easy", "sciq")
CASES = [
    *(
        pytest.param("random", (name,), k, None, id=f"random-{name}-k{k}")
        for name in WHOLE
        for k in (0, 5)
    ),
    pytest.param("random", ("hellaswag",), 0, 400, id="random-hellaswag-k0"),
    pytest.param("random", ("hellaswag",), 5, 400, id="random-hellaswag-k5"),
    *(pytest.param("real", (name,), 0, 200, id=f"real-{name}-k0") for name in REAL),
]
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        user_variable("PIPELINE_TEST_TASKS") is None,
        reason="real questions were not asked: PIPELINE_TEST_TASKS, a fetched folder, is not set",
    ),
]
TOLERANCE = 1e-4
"""Nats between the scorer that shares contexts and lm-eval's own model; with a real model, between
the scorer and the same model in fp64, from which lm-eval's own model is up to 1.1e-3 nats away
(SmolLM2-135M, answers of 150 tokens)."""
LEAST_UNITS = 5
"""The same in units of the last place of fp32, in which lm-eval adds up an answer: for answers of
hundreds of tokens (below -256 nats) these are more than TOLERANCE."""
WORST = 8
"""Answers of a real model that are computed in fp64: those that the two differ on most."""
PERPLEXITY = "perplexity,none"


@pytest.mark.ranks
@pytest.mark.parametrize(("model", "names", "shots", "limit"), CASES)
def test_every_metric_is_that_of_lm_eval_run(
    run_file: Path, tmp_path: Path, model: str, names: Sequence[str], shots: int, limit: int | None
) -> None:
    folder = model_folder(model, tmp_path)
    theirs = scores_of_lm_eval_run(folder, names, shots, limit, tmp_path)
    reference = scored_cells(run_file, folder, names, shots, limit, "harness")
    sharing = scored_cells(run_file, folder, names, shots, limit, "sharing")
    for name in names:
        expected = metrics_of(theirs[f"reference_{name}"])
        assert expected
        assert metrics_of(reference[name].result["results"][name]) == expected, name
        found = metrics_of(sharing[name].result["results"][name])
        # A perplexity follows from the likelihoods themselves, all others from what is larger.
        if PERPLEXITY in expected:
            perplexity = expected.pop(PERPLEXITY)
            assert found.pop(PERPLEXITY) == pytest.approx(perplexity, rel=TOLERANCE)
        assert found == expected, name
        ours, other = (likelihoods(cells[name]) for cells in (sharing, reference))
        differences = np.abs(ours - other)
        print(f"{name}, k = {shots}: {len(ours):,} answers, {differences.max():.1e} nats")
        if model == "real":
            worst = np.argsort(-differences)[:WORST]
            exact = likelihoods_in_fp64(folder, name, limit, worst)
            print(f"from fp64: here {np.abs(ours[worst] - exact).max():.1e} nats, ", end="")
            print(f"lm-eval's own model {np.abs(other[worst] - exact).max():.1e}")
            assert are_close(ours[worst], exact)
            stands_above_uniform(name, reference[name])
        else:
            assert are_close(ours, other)


def are_close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Tell whether log-likelihoods differ by less than rounding explains."""
    units = LEAST_UNITS * np.spacing(np.abs(expected).astype(np.float32))
    return bool((np.abs(found - expected) < np.maximum(TOLERANCE, units)).all())


def likelihoods_in_fp64(
    folder: Path, name: str, limit: int | None, numbers: np.ndarray
) -> np.ndarray:
    """Return log-likelihoods by lm-eval's own model in fp64, of the answers of these numbers."""
    tasks = build_tasks([name], [], Path(os.environ["PIPELINE_TEST_TASKS"])).single
    task = tasks[name]
    task.build_all_requests(limit=limit, rank=0, world_size=1)
    model = HFLM(pretrained=str(folder), dtype="float64", device="cpu", batch_size=1)
    found = model.loglikelihood([task.instances[number] for number in numbers], disable_tqdm=True)
    return np.array([log_likelihood for log_likelihood, _ in found])


def likelihoods(cell: Cell) -> np.ndarray:
    return np.array([answer["log_likelihood"] for item in cell.items for answer in item["answers"]])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_model_stands_where_uniform_probabilities_do(
    run_file: Path, tmp_path: Path, seed: int
) -> None:
    names = ("sciq", "arc_easy", "piqa", "hellaswag", "openbookqa", "copa")
    cells = scored_cells(run_file, random_model(tmp_path, seed), names, 0, 1000, "sharing")
    for name in names:
        result = cells[name].result
        for metric in ("acc", "acc_norm"):
            value = result["results"][name].get(f"{metric},none")
            if value is None:  # copa has only one of them
                continue
            error = result["results"][name][f"{metric}_stderr,none"]
            uniform = result["uniform"][metric]
            assert isinstance(value, float)
            assert isinstance(error, float)
            print(f"{name}: {metric} {value:.3f} +- {error:.3f}, uniform {uniform:.3f}")
            assert abs(value - uniform) < 3 * error


def stands_above_uniform(name: str, cell: Cell) -> None:
    """Check that a trained model is more than three standard errors above uniform probabilities."""
    scores = cell.result["results"][name]
    metric = "acc_norm" if name == "hellaswag" else "acc"
    value, error = scores[f"{metric},none"], scores[f"{metric}_stderr,none"]
    assert isinstance(value, float)
    assert isinstance(error, float)
    uniform = cell.result["uniform"][metric]
    print(f"{name}: {metric} {value:.3f} +- {error:.3f}, uniform {uniform:.3f}")
    assert value > uniform + 3 * error


def metrics_of(scores: dict[str, Any]) -> dict[str, float]:
    """Return all numbers but the one that depends on how often lm-eval draws: its command draws
    100,000 times."""
    return {
        key: value
        for key, value in scores.items()
        if isinstance(value, float) and key != "perplexity_stderr,none"
    }


def scored_cells(
    run_file: Path, model: Path, names: Sequence[str], shots: int, limit: int | None, scorer: str
) -> dict[str, Cell]:
    """Return the cells that the stage `evaluate` writes."""
    run_dir = run_file.parent / scorer
    settings = {
        "models": [str(model)],
        "tasks": list(names),
        "shots": [shots],
        "limit": limit,
        "scorer": scorer,
        "tasks_dir": os.environ["PIPELINE_TEST_TASKS"],
        "heldout_bytes": 0,
        "contamination": False,
    }
    overrides = [f"evaluation={json.dumps(settings)}", f"paths.run_dir={run_dir}"]
    config = load(run_file, overrides)
    (place,) = evaluate(config).counts["models"]
    cells = ScoresFolder(run_dir / "evaluation")
    return {name: read_cell(cells.cell(place, name, shots, FIRST_SEED)) for name in names}


def scores_of_lm_eval_run(
    model: Path, names: Sequence[str], shots: int, limit: int | None, folder: Path
) -> dict[str, dict[str, Any]]:
    """Return what the command scores, by task, with lm-eval's definitions on the same files.

    It puts the sequences of all its tasks into batches together, which can change last digits.
    """
    definitions = folder / "definitions"
    definitions.mkdir()
    tasks = TasksFolder(Path(os.environ["PIPELINE_TEST_TASKS"]))
    built = build_tasks(names, [], tasks.path).single
    for name in names:
        files = {split: str(path) for split, path in tasks.splits(name).items()}
        definition = {
            "include": str(definition_of(name)),
            "task": f"reference_{name}",
            "dataset_path": "parquet",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
            **{key: built[name].config[key] for key in KEYS},
        }
        (definitions / f"{name}.yaml").write_text(yaml.safe_dump(definition))
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
    command += ["--tasks", ",".join(f"reference_{name}" for name in names)]
    command += ["--num_fewshot", str(shots), "--batch_size", "16"]
    command += ["--include_path", str(definitions), "--output_path", str(folder / "output")]
    if limit is not None:
        command += ["--limit", str(limit)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert ended.returncode == 0, ended.stderr[-3000:]
    (file,) = (folder / "output").rglob("results_*.json")
    return json.loads(file.read_text())["results"]


def definition_of(name: str) -> Path:
    """Return lm-eval's file of a task."""
    folder = COLLECTION / str(CATALOGUE[name].definition)
    index = TaskManager(include_path=str(folder), include_defaults=False).task_index
    path = index[name].yaml_path
    assert path is not None
    return path


def model_folder(model: str, folder: Path) -> Path:
    """Return the folder of a model: that of PIPELINE_TEST_MODEL, or a random one."""
    if model == "real":
        if user_variable("PIPELINE_TEST_MODEL") is None:
            pytest.skip("no real model was asked: PIPELINE_TEST_MODEL, a folder, is not set")
        return Path(os.environ["PIPELINE_TEST_MODEL"])
    return random_model(folder, 0)


def random_model(folder: Path, seed: int) -> Path:
    """Write an untrained model that reads bytes."""
    byte_model(seed).save_pretrained(folder / "random")
    byte_tokenizer().save_pretrained(folder / "random")
    return folder / "random"
