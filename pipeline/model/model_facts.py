"""The run's model in figures, before there are data, tokenizer or ranks.

A process of its own builds the model (`model_check.py`), so that this module is free of torch. What
it finds is kept in data_dir.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.run_config import RunConfig
from pipeline.model.costs import ModelSize
from pipeline.model.shape import ModelShape
from pipeline.model.vocabulary import expected_vocabulary
from pipeline.store.pretrained_folders import content_of_model_folder
from pipeline.store.records import Json
from pipeline.work.separate_checks import Subject, run_separate_checks

VERSION = 3
"""Version of `model_check`.

Increase it when the check refuses or returns more, so that earlier verdicts are not used again.
"""


@dataclass(frozen=True)
class ModelFacts:
    """Figures of the run file's model."""

    parameters: int
    embedding_parameters: int
    """Parameters of embeddings and of the output head, tied or not."""
    one_dimensional_parameters: int
    """Parameters of norms and biases."""
    active_parameters: int
    """Parameters that a token goes through: in a dense model all but looked-up embeddings."""
    is_mixture: bool
    """Whether the model is a mixture of experts."""
    size: ModelSize
    shape: ModelShape
    moment_bytes: float
    """Bytes of optimizer states a parameter."""
    positions: int | None
    """Tokens that the model can see at once; None where the architecture has no limit."""


def model_facts(config: RunConfig) -> ModelFacts:
    """Return the model's figures, kept from an earlier start or counted on a model without values.

    Raises ConfigError with every problem of the section `model`, and DataError where a pretrained
    tokenizer, whose size is needed, cannot be read.
    """
    return facts_of_models([config], "the model's settings")[0]


def facts_of_models(configs: Sequence[RunConfig], words: str) -> list[ModelFacts]:
    """Return the figures of the models of several run files, in their order.

    `words`: what is checked, as it is printed. Raises as `model_facts`.
    """
    subjects = [Subject(config, _what_decides(config)) for config in configs]
    return run_separate_checks("pipeline.model.model_check", ModelFacts, subjects, words)


def _what_decides(config: RunConfig) -> dict[str, Json]:
    """Return everything that the verdict depends on, besides the libraries' versions."""
    folder = config.model.pretrained
    content = None
    if folder is not None:
        content = content_of_model_folder(folder)
    return {
        "version": VERSION,
        "model": config.model.model_dump(mode="json", exclude={"pretrained"}),
        "pretrained": content,
        "ids": expected_vocabulary(config)[0],
        "sequence_length": config.data.sequence_length,
        "optimizer": config.optimizer.kind,
        "document_mask": config.data.document_mask,
    }
