"""Writes a model as a transformers folder: weights, config, tokenizer, model card.

`AutoModelForCausalLM`, `AutoTokenizer` and `lm_eval --model hf` load the folder unchanged.
"""

import os
import re
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.run_config import RunConfig
from pipeline.evaluation.published import publish
from pipeline.store.counts import LineageEntry

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class CardFacts:
    """What a model card says of the training."""

    step: int
    tokens: int
    validation_loss: float | None
    """Nats per token; None where it was not measured."""
    lineage: Sequence[LineageEntry]
    further: Mapping[str, str] = field(default_factory=dict)
    """Further rows of the card."""


@contextmanager
def replacing_folder(target: Path) -> Generator[Path]:
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


def write_model_folder(
    config: RunConfig, model: "PreTrainedModel", target: Path, facts: CardFacts
) -> None:
    """Write weights and config, the run's tokenizer and a model card into a new folder.

    Raises OSError where the disk is full.
    """
    from safetensors import SafetensorError

    try:
        model.save_pretrained(target)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number:  # a full disk, which safetensors reports as an error of its own
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(target)) from None
        raise
    misreading = publish(config, target)
    (target / "README.md").write_text(_model_card(config, model, facts, misreading), "utf-8")


def _beginning(lineage: Sequence[LineageEntry]) -> str:
    """Return the words of a model card about what the training began from."""
    if not lineage:
        return "Trained from scratch"
    last = lineage[-1]
    place = last.get("pretrained") or f"{last.get('run')}@{last.get('step')}"
    return f"Trained on from `{place}`"


def _model_card(
    config: RunConfig, model: "PreTrainedModel", facts: CardFacts, misreading: str | None
) -> str:
    """Return the model card; `misreading`: how transformers 4 reads another model, or None."""
    # What is not a plain number.
    loss = "not measured"
    if facts.validation_loss is not None:
        loss = f"{facts.validation_loss:.4f} nats per token"
    versions = "4 and 5"
    if misreading is not None:
        versions = f"5 only: of version 4, {misreading}"

    # The table.
    rows = {
        "steps": f"{facts.step:,}",
        "tokens": f"{facts.tokens:,}",
        "sources": ", ".join(config.sources),
        "sequence length": str(config.data.sequence_length),
        "precision": config.precision.dtype,
        "held-out loss": loss,
        "transformers": versions,
        **facts.further,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"""# {model.config.model_type}, {parameters:,} parameters

{_beginning(facts.lineage)} with `pipeline train`.

| | |
| --- | --- |
{table}
"""
