"""What is known of the run's model before there are data, tokenizer or ranks. Free of torch: a
process of its own builds it."""

from dataclasses import dataclass
from typing import Any

from pipeline.config.run_config import RunConfig
from pipeline.model.vocabulary import expected_vocabulary
from pipeline.store.pretrained_folders import content_of_model_folder
from pipeline.work.separate_checks import run_separate_check

VERSION = 2
"""Raised when `model_check` refuses more or tells more, so that kept verdicts are not taken for new
ones."""


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of the model that the run file asks for."""

    parameters: int
    moment_bytes: float
    """Optimizer states, in bytes a parameter."""
    positions: int | None
    """Tokens that it can see at once; None where the architecture has no limit."""


def model_facts(config: RunConfig) -> ModelFacts:
    """Build the model without values, or take what was found when it was built before.

    Raises ConfigError with all that is wrong with `model`, and DataError where a pretrained
    tokenizer, whose size counts, cannot be read.
    """
    decides = _what_decides(config)
    return run_separate_check(
        "pipeline.model.model_check", ModelFacts, config, decides, "the model's settings"
    )


def _what_decides(config: RunConfig) -> dict[str, Any]:
    folder = config.model.pretrained
    return {
        "version": VERSION,
        "model": config.model.model_dump(mode="json", exclude={"pretrained"}),
        "pretrained": None if folder is None else content_of_model_folder(folder),
        "ids": expected_vocabulary(config)[0],
        "sequence_length": config.data.sequence_length,
        "optimizer": config.optimizer.kind,
        "document_mask": config.data.document_mask,
    }
