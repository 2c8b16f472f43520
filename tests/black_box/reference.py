"""What commands offer and what runs leave on disk, read without the pipeline, as digests that can
be compared.

What depends on arithmetic (losses, weights) is told apart from what does not: its bits differ
between kinds of CPUs.
"""

import hashlib
import json
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from allowed import ADDED_EVENTS, ADDED_FIELDS, ADDED_RECORDS, OTHER_QUESTIONS
from safetensors import safe_open
from scenarios import Program

COMMAND_LINE = re.compile(r"^(?:│ |  )([a-z][a-z-]*)(?: |$)")
"""A line of help that names a command: plain, or in a frame as the recorded commit prints it."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
MEASURED = re.compile(r"seconds$|^tokens_per_second$|^tflops$|^mfu$|^hfu$|^peak_memory_bytes$")
"""Fields of a step or an event that are another number each time."""
OF_THE_MOMENT = {"time", "environment", "phases", "cpu_phases"}
"""Fields of an event that are others each time."""
IN_WORDS = {"message", "config"}
"""Fields of an event that tell in words, or as a run file, what others tell as values."""


def digest(data: bytes) -> str:
    """Return 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def digest_of_json(value: Any) -> str:
    """Return the digest of a JSON value, whatever the order of its keys."""
    return digest(json.dumps(value, sort_keys=True).encode())


def kind_of_machine() -> str:
    """Return a name for machines whose arithmetic gives the same bits."""
    models = re.findall(
        r"^(?:model name|CPU part)\s*:.*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
    )
    capability = torch.backends.cpu.get_cpu_capability()
    model = digest(" ".join(sorted(set(models))).encode())
    return f"{platform.machine()} {capability} torch {torch.__version__} {model}"


def offered(program: Program, folder: Path) -> dict[str, list[str]]:
    """Return the options of every command, by the words that are typed for it."""
    options: dict[str, list[str]] = {}
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        words = waiting.pop()
        text = program(folder, *words, "--help").stdout
        options[" ".join(words)] = sorted(set(OPTION.findall(text)))
        if "COMMAND" in text:
            matches = map(COMMAND_LINE.match, text.splitlines())
            waiting += [(*words, match.group(1)) for match in matches if match]
    return options


def files_of_data(data_dir: Path) -> dict[str, str]:
    """Return the digest of every file of documents, tokenizer, tokens and packing, without what
    stages say of them."""
    return {
        path.relative_to(data_dir).as_posix(): digest(path.read_bytes())
        for path in sorted(data_dir.rglob("*"))
        if path.is_file() and not _is_record(path, data_dir)
    }


def _is_record(path: Path, data_dir: Path) -> bool:
    """Tell whether a file says something of the data, or of how they were made, and is none of
    them."""
    hidden = any(part.startswith(".") for part in path.relative_to(data_dir).parts)
    records = ("manifest.json", "report.json", "statistics.json", *ADDED_RECORDS)
    return hidden or path.name in records


def tensors(paths: Iterable[Path]) -> tuple[list[list[Any]], str]:
    """Return name, type and shape of each tensor of safetensors files, and a digest of all their
    bytes."""
    layout: list[list[Any]] = []
    content = hashlib.sha256()
    for path in sorted(paths):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name)
                layout.append([path.name, name, str(tensor.dtype), list(tensor.shape)])
                content.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return layout, content.hexdigest()[:16]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def steps_of(run: Path) -> list[dict[str, Any]]:
    """Return all fields of all steps; of those that measure time or memory only that they are
    there."""
    return [
        {
            name: "measured" if MEASURED.search(name) else value
            for name, value in record.items()
            if name not in ADDED_FIELDS
        }
        for record in read_lines(run / "metrics.jsonl")
    ]


def events_of(run: Path) -> list[dict[str, Any]]:
    """Return all events without the moment, the words and the place."""
    lines = (
        (run / "events.jsonl").read_text("utf-8").replace(str(run.parent), "FOLDER").splitlines()
    )
    return [
        {
            name: "of the moment" if _is_of_the_moment(name) else value
            for name, value in record.items()
            if name not in ADDED_FIELDS
        }
        for record in map(json.loads, lines)
        if record["event"] not in ADDED_EVENTS
    ]


def _is_of_the_moment(name: str) -> bool:
    return name in OF_THE_MOMENT | IN_WORDS or MEASURED.search(name) is not None


def observe_run(program: Program, folder: Path, run: str) -> dict[str, Any]:
    """Return what a run has left, in two parts: `form`, the same on all machines, and `numbers`."""
    run_dir = folder / run
    form: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    steps = steps_of(run_dir)
    form["fields of steps"] = sorted({name for record in steps for name in record})
    numbers["steps"] = digest_of_json(steps)
    numbers["losses"] = [record["loss"] for record in steps]
    numbers["data"] = digest_of_json([record["data_checksum"] for record in steps])
    numbers["events"] = events_of(run_dir)
    for checkpoint in sorted((run_dir / "checkpoints").glob("step_*")):
        whole = folder / f"{run}-{checkpoint.name}"
        step = str(int(checkpoint.name.removeprefix("step_")))
        program(folder, "checkpoints", "convert", run, "--step", step, "--output", str(whole))
        layout, content = tensors(whole.rglob("*.safetensors"))
        form[checkpoint.name] = digest_of_json(layout)
        numbers[checkpoint.name] = content
    for export in sorted((run_dir / "export").glob("step_*")):
        layout, content = tensors(export.glob("*.safetensors"))
        form[f"export/{export.name}"] = digest_of_json(layout)
        numbers[f"export/{export.name}"] = content
        for path in sorted(export.glob("*.json")):
            form[f"export/{export.name}/{path.name}"] = digest(path.read_bytes())
    evaluation = run_dir / "evaluation"
    for path in sorted(evaluation.glob("tasks/*.*")):
        if not is_of_other_questions(path.name):
            form[f"evaluation/tasks/{path.name}"] = digest(path.read_bytes())
    numbers |= scores_in(evaluation)
    return {"form": form, "numbers": numbers}


def scores_in(evaluation: Path) -> dict[str, Any]:
    """Return lm-eval's results of single tasks, as the commit that wrote observed.json keeps them:
    in a file for each number of examples. Later commits have a file for each task."""
    found: dict[str, Any] = {}
    for path in sorted(evaluation.glob("*.json")):
        if path.name != "manifest.json":
            found[f"evaluation/{path.name}"] = json.loads(path.read_text("utf-8"))["results"]
    for path in sorted(evaluation.glob("cells/*/*/k*.json")):
        task = path.parent.name
        name = f"shots_{path.stem.removeprefix('k')}.json"
        if task.startswith("heldout_bpb_"):
            name = "bits_per_byte.json"
        results = json.loads(path.read_text("utf-8"))["results"]
        found.setdefault(f"evaluation/{name}", {}).update(results)
    return without_other_questions(found)


def without_other_questions(content: dict[str, Any]) -> dict[str, Any]:
    """Return what was observed, without built-in tasks whose questions are others now."""
    kept: dict[str, Any] = {}
    for name, values in content.items():
        if name.startswith("evaluation/tasks/") and is_of_other_questions(Path(name).name):
            continue
        if name.startswith("evaluation/") and isinstance(values, dict):
            scores = {task: of for task, of in values.items() if not is_of_other_questions(task)}
            if not scores:
                continue
            kept[name] = scores
        else:
            kept[name] = values
    return kept


def is_of_other_questions(name: str) -> bool:
    """Tell whether a task, or a file of one, is of a built-in task whose questions have changed."""
    return name.startswith(OTHER_QUESTIONS)
