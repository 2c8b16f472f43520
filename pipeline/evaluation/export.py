"""The stage `export`: writes the last checkpoint as a transformers folder, and verifies the folder.

Reads a checkpoint, whose bytes are compared with their checksums first, and data_dir/tokenizer;
writes run_dir/export/step_N. `AutoModelForCausalLM`, `AutoTokenizer` and `lm_eval --model hf` load
the folder unchanged. It is written under a temporary name, and replaces an earlier one only when
its logits equal the engine's: an export that fails changes nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.checkpoint.folders import checkpoint_of_step, read_checkpoint_manifest
from pipeline.checkpoint.integrity import with_remedy
from pipeline.checkpoint.reader import PROBE
from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.evaluation.generation import Sampling, continue_text, encode_prompt
from pipeline.evaluation.model_folder import CardFacts, replacing_folder, write_model_folder
from pipeline.evaluation.models import (
    checkpoint_identity,
    checkpoint_weights,
    damage_remedy,
    load_folder_model,
    model_of_weights,
)
from pipeline.logs import console, human_bytes, note, styled, warn
from pipeline.store.artifacts import Result, read_manifest
from pipeline.store.counts import ExportCounts, TrainCounts
from pipeline.store.files import file_record
from pipeline.store.layout import manifest_path, run_folder
from pipeline.store.metrics import step_record
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
    with replacing_folder(target) as partial:
        facts = CardFacts(
            trained["counts"]["step"],
            trained["counts"]["tokens"],
            trained["counts"]["validation_loss"],
            trained["counts"]["lineage"],
        )
        difference = _write_verified(config, checkpoints / name, partial, facts)
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


def export_steps(config: RunConfig, steps: Sequence[int]) -> None:
    """Write the transformers folders of some checkpoints of a run, whatever the stage has exported.

    Raises UserError for a step that has no complete checkpoint, listing those that have; DataError
    as `export` does.
    """
    run = run_folder(config)
    checkpoints = [checkpoint_of_step(run.checkpoints, step) for step in steps]
    for checkpoint in checkpoints:
        manifest = read_checkpoint_manifest(checkpoint)
        state = manifest["state"]
        record = step_record(run.path, state["step"])
        loss = None
        if record is not None:
            loss = record.get("validation_loss")
        facts = CardFacts(state["step"], state["tokens"], loss, manifest["lineage"])
        with replacing_folder(run.export / checkpoint.name) as partial:
            difference = _write_verified(config, checkpoint, partial, facts)
        note(
            f"export: wrote {run.export / checkpoint.name}; logits equal the engine's to "
            f"{difference:.1g}"
        )


def _write_verified(config: RunConfig, checkpoint: Path, folder: Path, facts: CardFacts) -> float:
    """Write a verified checkpoint, load it again, return the largest difference of its logits.

    Raises DataError where it is larger than TOLERANCE.
    """
    write_model_folder(
        config, model_of_weights(config, checkpoint_weights(checkpoint)), folder, facts
    )
    with with_remedy(damage_remedy(checkpoint.parent)):
        probe = read_probe(checkpoint / PROBE)
    difference = max_logit_difference(folder, probe)
    if not difference < TOLERANCE[config.precision.dtype]:
        raise DataError(
            f"{checkpoint}: the exported model's logits differ from the engine's by "
            f"{difference:.2g}, more than {TOLERANCE[config.precision.dtype]} for "
            f"{config.precision.dtype}: nothing was exported. Are the run file and "
            "paths.data_dir/tokenizer still the ones that the model was trained with?"
        )
    return difference


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
