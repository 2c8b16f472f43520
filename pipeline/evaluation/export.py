"""The stage `export`: writes the last checkpoint as a transformers folder, and verifies the folder.

Reads a checkpoint, whose bytes are compared with their checksums first, and data_dir/tokenizer;
writes run_dir/export/step_N. `AutoModelForCausalLM`, `AutoTokenizer` and `lm_eval --model hf` load
the folder unchanged. It is written under a temporary name, and replaces an earlier one only when
its logits equal the engine's: an export that fails changes nothing.
"""

import os
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.checkpoint.integrity import with_remedy
from pipeline.checkpoint.reader import PROBE
from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.evaluation.generation import Sampling, continue_text, encode_prompt
from pipeline.evaluation.models import (
    checkpoint_identity,
    checkpoint_weights,
    damage_remedy,
    load_folder_model,
    model_of_weights,
)
from pipeline.evaluation.published import publish
from pipeline.logs import console, human_bytes, note, styled, warn
from pipeline.store.artifacts import Result, read_manifest
from pipeline.store.counts import ExportCounts, LineageEntry, TrainCounts
from pipeline.store.files import file_record
from pipeline.store.layout import manifest_path, run_folder
from pipeline.store.pretrained_folders import open_model
from pipeline.store.records import Manifest

TOLERANCE = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02}
"""`precision.dtype` -> largest accepted difference of a logit.

fp32: rounding of another summation order. The half formats: a few units in the last place (2^-8 and
2^-11) of logits around 10, since the engine may have run on another device."""
CONTINUATION_TOKENS = 48
"""Tokens that the model writes after the prompt, where its context has room for them."""


def export(config: RunConfig) -> Result[ExportCounts]:
    """Write the transformers folder, load it again, compare its logits, and continue the prompt.

    Raises DataError where the checkpoint is missing or damaged, or where the logits of the written
    model differ from the engine's by more than TOLERANCE.
    """
    # Find the last checkpoint of the run.
    run = run_folder(config)
    checkpoints = run.checkpoints
    folder = run.export
    trained: Manifest[TrainCounts] | None = read_manifest(run.train_manifest)
    assert trained is not None, "run_stage checks the inputs"
    name = trained["counts"]["checkpoint"]
    if not manifest_path(checkpoints / name).is_file():
        raise DataError(
            f"{checkpoints / name}: the trained checkpoint is gone. Restore it, or train again in "
            "another run_dir."
        )

    # Write the folder. It gets its final name only if its logits equal the engine's.
    target = folder / name
    with _replacing(target) as partial:
        _write(config, checkpoints / name, partial, trained["counts"])
        with with_remedy(damage_remedy(checkpoints)):
            probe = read_probe(checkpoints / name / PROBE)
        difference = max_logit_difference(partial, probe)
        if not difference < TOLERANCE[config.precision.dtype]:
            raise DataError(
                f"{checkpoints / name}: the exported model's logits differ from the engine's by "
                f"{difference:.2g}, more than {TOLERANCE[config.precision.dtype]} for "
                f"{config.precision.dtype}: nothing was exported. Are the run file and "
                "paths.data_dir/tokenizer still the ones that the model was trained with?"
            )
        continuation = _continue_prompt(partial, config.evaluation.prompt)
    note(f"export: reloaded logits match the engine's (largest difference {difference:.2g})")
    console.print(styled(config.evaluation.prompt) + styled(continuation, "bold"))

    # What the manifest holds.
    files = {f"{name}/{path.name}": file_record(path) for path in sorted(target.iterdir())}
    size = sum(record["bytes"] for record in files.values())
    counts: ExportCounts = {
        "headline": (
            f"{name}, {trained['counts']['parameters']:,} parameters, {human_bytes(size)}; logits "
            f"equal the engine's to {difference:.1g}"
        ),
        "step": trained["counts"]["step"],
        "tokens": trained["counts"]["tokens"],
        "identity": checkpoint_identity(config, checkpoints / name),
        "folder": name,
        "parameters": trained["counts"]["parameters"],
        "dtype": config.precision.dtype,
        "max_logit_difference": difference,
        "prompt": config.evaluation.prompt,
        "continuation": continuation,
    }
    return Result(counts, files)


@contextmanager
def _replacing(target: Path) -> Generator[Path]:
    """Yield the path of a folder to write, which then replaces `target`.

    If anything fails, `target` stays unchanged.
    """
    # Repair what a killed export has left.
    partial = target.with_name(f".{target.name}")
    replaced = target.with_name(f".{target.name}.replaced")
    if replaced.exists() and not target.exists():  # killed between the two renames below
        replaced.rename(target)
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)

    # The earlier folder is removed last, and comes back if a step before that fails.
    try:
        yield partial
        if target.exists():
            target.rename(replaced)
        partial.rename(target)
    except BaseException:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _write(config: RunConfig, checkpoint: Path, target: Path, counts: TrainCounts) -> None:
    """Write a verified checkpoint as a transformers folder with tokenizer and model card."""
    from safetensors import SafetensorError

    # Build the model with the verified weights.
    model = model_of_weights(config, checkpoint_weights(checkpoint))

    # Write its files: weights and config, tokenizer, model card.
    try:
        model.save_pretrained(target)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number:  # a full disk, which safetensors reports as an error of its own
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(target)) from None
        raise
    misreading = publish(config, target)
    card = _model_card(config, counts, model.config.model_type, misreading)
    (target / "README.md").write_text(card, encoding="utf-8")


def read_probe(path: Path) -> dict[str, np.ndarray]:
    """Return `input_ids` and the engine's `logits` for them, as a checkpoint holds them.

    Raises DataError where the file is damaged.
    """
    from pipeline.checkpoint.files import decoding_file

    with decoding_file(path):
        arrays = np.load(path)  # reads no Python objects, so that no code is run
        return {name: arrays[name] for name in ("input_ids", "logits")}


def max_logit_difference(folder: Path, expected: Mapping[str, np.ndarray]) -> float:
    """Load an exported folder and return the largest difference of its logits to the engine's.

    `expected`: what `read_probe` returns.
    """
    import torch

    model = open_model(folder, str(folder)).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(expected["input_ids"])).logits.float().numpy()
    return float(np.abs(logits - expected["logits"]).max())


def _continue_prompt(folder: Path, prompt: str) -> str:
    """Return what an exported model writes after the prompt, always the same text."""
    loaded = load_folder_model(folder)
    sampling = Sampling(most_tokens=CONTINUATION_TOKENS)
    cut_tokens = encode_prompt(loaded, prompt, sampling.most_tokens).cut_tokens
    if cut_tokens:
        warn(
            f"export: the model's context has no room for the first {cut_tokens:,} tokens of "
            "evaluation.prompt, which it does not read"
        )
    return continue_text(loaded, prompt, sampling)


def _beginning(lineage: list[LineageEntry]) -> str:
    """Return the words of a model card about what the training began from."""
    if not lineage:
        return "Trained from scratch"
    last = lineage[-1]
    place = last.get("pretrained") or f"{last.get('run')}@{last.get('step')}"
    return f"Trained on from `{place}`"


def _model_card(config: RunConfig, counts: TrainCounts, name: str, misreading: str | None) -> str:
    """Return the model card; `misreading`: how transformers 4 reads another model, or None."""
    sources = ", ".join(config.sources)
    loss = "not measured"
    if counts["validation_loss"] is not None:
        loss = f"{counts['validation_loss']:.4f} nats per token"
    versions = "4 and 5"
    if misreading is not None:
        versions = f"5 only: of version 4, {misreading}"
    return f"""# {name}, {counts["parameters"]:,} parameters

{_beginning(counts["lineage"])} with `pipeline train`.

| | |
| --- | --- |
| steps | {counts["step"]:,} |
| tokens | {counts["tokens"]:,} |
| sources | {sources} |
| sequence length | {config.data.sequence_length} |
| precision | {config.precision.dtype} |
| held-out loss | {loss} |
| transformers | {versions} |
"""
