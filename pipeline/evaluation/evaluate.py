"""The stage `evaluate`: few-shot scores and bits per byte of the exported model.

Reads run_dir/export (a transformers folder) and the validation documents; writes
run_dir/evaluation: `tasks/` (the built-in tasks), `shots_<k>.json` and
`bits_per_byte.json`, each a result of the EleutherAI harness with `provenance` added. A result
whose provenance has the fingerprint of what is asked for now is kept, so that an interrupted
evaluation continues where it stopped.
"""

import importlib.metadata
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.built_in.built_in_tasks import BITS_PER_BYTE, SEED, write_tasks
from pipeline.evaluation.results import HarnessResult
from pipeline.evaluation.task_facts import describe_task_files
from pipeline.logs import counted_noun, human_bytes, human_seconds, note, warn
from pipeline.store.artifacts import Result, environment, read_manifest
from pipeline.store.counts import BitsPerByte, EvaluateCounts, TaskScore
from pipeline.store.files import file_record, fingerprint, read_json, remove_unlisted, write_json
from pipeline.store.layout import TASKS, RunFolder, data_folder, run_folder
from pipeline.store.pretrained_folders import MODEL_CONFIG, TOKENIZER_CONFIG, TOKENIZER_JSON

FORMAT = 2
"""Increased when the content of result files changes, so that older ones are made again."""
ACCURACIES = ("acc", "exact_match")
"""Prefixes of metrics that count right answers: guessing among the choices has a score."""
READ_BESIDE_WEIGHTS = (MODEL_CONFIG, TOKENIZER_JSON, TOKENIZER_CONFIG)
"""Files of an exported folder that decide the scores, besides the weights."""


@dataclass(frozen=True)
class PlannedResult:
    """One result file: some tasks at one number of shots."""

    name: str
    """Name of the file, without its suffix."""
    label: str
    """Text beside the progress bar."""
    tasks: tuple[str, ...]
    shots: int
    """Solved examples before each question."""
    fingerprint: str
    """Hash of the weights, config and tokenizer, the questions, the tasks' names and the shots."""


def evaluate(config: RunConfig) -> Result[EvaluateCounts]:
    """Score the exported model; every metric of every task is a row of `scores`.

    Raises DataError where the export is missing or there is too little held-out text; ConfigError
    for unknown tasks, and where `heldout_cloze` has no source with text.
    """
    run = run_folder(config)
    model_folder = exported_model(config.paths.run_dir)
    refuse_cloze_without_text(config)

    # Write the built-in tasks; only sources with text have held-out documents.
    with_text = [name for name, source in config.sources.items() if source.has_documents]
    without = ", ".join(name for name in config.sources if name not in with_text)
    if without:
        note(
            f"evaluate: no held-out text and no bits per byte of {without}, whose ids were made "
            "elsewhere (kind megatron)"
        )
    names = write_tasks(run.tasks, data_folder(config).documents, with_text, config.evaluation)

    # Fingerprint what decides the scores, and make the results that are missing.
    files = {f"{TASKS}/{name}": file_record(run.tasks / name) for name in names}
    weights = {
        path.name: file_record(path)["checksum"]
        for path in sorted(model_folder.glob("*.safetensors"))
    }
    model = weights | {
        name: file_record(model_folder / name)["checksum"] for name in READ_BESIDE_WEIGHTS
    }
    pieces = _plan_results(
        config, model, {name: record["checksum"] for name, record in files.items()}
    )
    missing = [piece for piece in pieces if not _is_done(run, piece)]
    if missing:
        _score(config, model_folder, weights, missing)

    # Remove results that are no longer asked for.
    results = [run.scores(piece.name) for piece in pieces]
    patterns = [run.scores(name).name for name in ("shots_*", "bits_per_byte")]
    remove_unlisted(run.evaluation, [path.name for path in results], patterns)
    files |= {path.name: file_record(path) for path in results}
    return Result(_counts(run, pieces), files)


def refuse_cloze_without_text(config: RunConfig) -> None:
    """Raise ConfigError where `heldout_cloze` is asked for and no source has text.

    Called before hours of training.
    """
    if "heldout_cloze" not in config.evaluation.tasks:
        return
    if any(source.has_documents for source in config.sources.values()):
        return
    raise ConfigError(
        [
            "evaluation.tasks: heldout_cloze makes its questions from held-out text, and no source "
            "has text (all are of kind megatron). Remove it, for example "
            "evaluation.tasks=[patterns,arithmetic]; or add a source with documents, with weight 0 "
            "in data.mixture if it is not to be trained on"
        ]
    )


def exported_model(run_dir: Path) -> Path:
    """Return the folder that `export` wrote last. Raises DataError where there is none."""
    run = RunFolder(run_dir)
    manifest = read_manifest(run.export_manifest)
    if manifest is None:
        raise DataError(f"{run.export}: holds no exported model. Run `pipeline export` first.")
    return run.export / manifest["counts"]["folder"]


def _plan_results(
    config: RunConfig, model: Mapping[str, str], tasks: Mapping[str, str]
) -> list[PlannedResult]:
    """Return the result files that the run file asks for.

    `model`, `tasks`: checksums of the exported files and of the task files, by name.
    """

    def planned(name: str, label: str, names: Sequence[str], shots: int) -> PlannedResult:
        identity = {
            "format": FORMAT,
            "model": model,
            "tasks": tasks,
            "names": names,
            "shots": shots,
        }
        identity |= describe_task_files(config)
        return PlannedResult(
            name, label, tuple(names), shots, fingerprint(json.loads(json.dumps(identity)))
        )

    settings = config.evaluation
    results: list[PlannedResult] = []
    if settings.tasks:
        for k in sorted(set(settings.shots)):
            results.append(planned(f"shots_{k}", f"evaluate: k = {k}", settings.tasks, k))

    # A source without held-out text has no such task.
    names = [f"{BITS_PER_BYTE}{source}" for source in config.sources]
    names = [name for name in names if f"{TASKS}/{name}.yaml" in tasks]
    if names:
        results.append(planned("bits_per_byte", "evaluate: bits per byte", names, 0))
    return results


def _is_done(run: RunFolder, planned: PlannedResult) -> bool:
    """Return whether the result is on disk with this fingerprint."""
    result = read_json(run.scores(planned.name))
    return result is not None and result["provenance"]["fingerprint"] == planned.fingerprint


def _score(
    config: RunConfig,
    model_folder: Path,
    weights: Mapping[str, str],
    pieces: Sequence[PlannedResult],
) -> None:
    """Load the model once, score it, and write each result as soon as it is complete."""
    # Set before the libraries are imported: nothing may ask the network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from pipeline.evaluation import harness
    from pipeline.evaluation.known_tasks import find_tasks

    # Build the tasks of all results, and load the model.
    run = run_folder(config)
    settings = config.evaluation
    task_names = list(dict.fromkeys(name for piece in pieces for name in piece.tasks))
    manager = find_tasks(task_names, [run.tasks, *settings.task_paths])
    model = harness.HarnessModel(model_folder, settings.batch_sequences)
    has_warned: set[tuple[str, int]] = set()

    for piece in pieces:
        # Score, and record what the scores were made with.
        started = time.monotonic()
        result = harness.score(model, manager, piece.tasks, piece.shots, piece.label)
        cut_requests = {task: count for task, count in model.cut_requests.items() if count}
        result["provenance"] = {
            "fingerprint": piece.fingerprint,
            "weights": dict(weights),
            "world_size": model.world_size,
            "batch_sequences": settings.batch_sequences,
            "device": str(model.device),
            "task_seed": SEED,
            "cut_requests": cut_requests,
            "environment": environment(),
        }
        write_json(run.scores(piece.name), result)
        note(
            f"{piece.label}: {counted_noun(len(piece.tasks), 'task')} in "
            f"{human_seconds(time.monotonic() - started)}"
        )

        # Warn once for each task and k: a task that fixes its shots is the same at every k.
        for task, count in cut_requests.items():
            shots = result["n-shot"].get(task, piece.shots)
            if (task, shots) in has_warned:
                continue
            has_warned.add((task, shots))
            warn(
                f"k = {shots}: {count:,} of {model.requests[task]:,} sequences of {task} were "
                f"longer than the model's {model.max_length} tokens and lost their beginning"
            )


def _counts(run: RunFolder, pieces: Sequence[PlannedResult]) -> EvaluateCounts:
    """Return the scores and the bits per byte of all results."""
    scores: list[TaskScore] = []
    bits: dict[str, BitsPerByte] = {}
    questions: dict[str, int] = {}
    for piece in pieces:
        result: HarnessResult = read_json(run.scores(piece.name))
        # Few-shot scores. A task that fixes its number of examples comes again with every k.
        if piece.name != "bits_per_byte":
            seen = {(row["task"], row["metric"], row["shots"]) for row in scores}
            rows = score_rows(result, piece.shots)
            scores += [
                row for row in rows if (row["task"], row["metric"], row["shots"]) not in seen
            ]
            questions |= {task: count["effective"] for task, count in result["n-samples"].items()}
            continue
        # Bits per byte, with the bytes of the text that was scored.
        for task in piece.tasks:
            lines = (run.tasks / f"{task}.jsonl").read_text("utf-8").split("\n")
            size = sum(len(json.loads(line)["text"].encode()) for line in lines if line)
            value = result["results"][task]["bits_per_byte,none"]
            assert isinstance(value, int | float)
            bits[task.removeprefix(BITS_PER_BYTE)] = {"value": value, "bytes": size}

    # The line that the stage ends with.
    parts = []
    if scores:
        shots = ", ".join(str(k) for k in sorted({row["shots"] for row in scores}))
        parts.append(
            f"{counted_noun(len(questions), 'task')}, "
            f"{counted_noun(sum(questions.values()), 'question')} at k = {shots}"
        )
    if bits:
        size = human_bytes(sum(entry["bytes"] for entry in bits.values()))
        mean = sum(entry["value"] for entry in bits.values()) / len(bits)
        parts.append(f"{mean:.2f} bits per byte on {size} of held-out text of {len(bits)} sources")
    return {
        "headline": "; ".join(parts) or "nothing asked for",
        "scores": scores,
        "bits_per_byte": bits,
        "harness": importlib.metadata.version("lm_eval"),
    }


def score_rows(result: HarnessResult, shots: int) -> list[TaskScore]:
    """Return a row for each metric of each task and group in the harness's result, in its order.

    The number of examples is the one that the harness reports (`n-shot`). `shots`, the number asked
    for, stands in for groups whose tasks differ in it.
    """
    rows: list[TaskScore] = []
    for task, values in result["results"].items():
        # The questions of a group are those of its tasks.
        members = result.get("group_subtasks", {}).get(task) or [task]
        items = {
            member: result["n-samples"][member]["effective"]
            for member in members
            if member in result["n-samples"]
        }
        # Values without a filter are no metrics: the alias, the sample count, the standard errors.
        for key, value in values.items():
            metric, comma, filter_name = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = values.get(f"{metric}_stderr,{filter_name}")
            if not isinstance(error, (int, float)):
                error = None
            chance = None
            if metric.startswith(ACCURACIES):
                chance = _chance_of_tasks(result, items)
            if filter_name != "none":
                metric = f"{metric} ({filter_name})"
            rows.append(
                {
                    "task": task,
                    "shots": result.get("n-shot", {}).get(task, shots),
                    "metric": metric,
                    "value": value,
                    "standard_error": error,
                    "items": sum(items.values()),
                    "chance": chance,
                }
            )
    return rows


def _chance_of_tasks(result: HarnessResult, items: Mapping[str, int]) -> float | None:
    """Return the score of guessing over several tasks; None where one of them has no choices.

    `items`: task -> its questions.
    """
    if not items:
        return None
    right = 0.0
    for task, count in items.items():
        chance = result.get("chance", {}).get(task)
        if chance is None:
            return None
        right += chance * count
    return right / sum(items.values())
