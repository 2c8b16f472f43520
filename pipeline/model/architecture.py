"""The transformers config of the run file's model, of a new one or of one in a folder, and what is
wrong with it."""

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, one_line
from pipeline.model.config_differences import RUN_TIME_SETTINGS
from pipeline.model.model_rules import ATTENTION, architecture_problems, setting_problems
from pipeline.model.vocabulary import finished_vocabulary
from pipeline.store.pretrained_folders import open_config


def model_config(config: RunConfig, vocabulary: tuple[int, int] | None = None) -> PretrainedConfig:
    """Return the transformers config for a number of ids and an end-of-document id, by default the
    tokenizer's.

    Raises ConfigError for an unknown architecture or key, values that transformers refuses, heads
    that do not fit the width, too small a vocabulary, and fewer positions than
    `data.sequence_length`.
    """
    ids, end = vocabulary or finished_vocabulary(config)
    model = (
        _pretrained_config(config, ids)
        if config.model.pretrained
        else _new_config(config, ids, end)
    )
    positions = getattr(model, "max_position_embeddings", None)
    if positions is not None and positions < config.data.sequence_length:
        setting = model.attribute_map.get("max_position_embeddings", "max_position_embeddings")
        raise ConfigError(
            [
                f"model.config.{setting} = {positions}: must be at least data.sequence_length = "
                f"{config.data.sequence_length}; raise it, leave it out for the architecture's "
                "own, or set "
                f"data.sequence_length = {positions}"
            ]
        )
    return model


def _new_config(config: RunConfig, ids: int, end: int) -> PretrainedConfig:
    architecture = config.model.architecture
    settings = config.model.config
    problems = architecture_problems(architecture)
    if problems:
        raise ConfigError(problems)
    assert architecture is not None, "refused above"
    problems = setting_problems(architecture, settings)
    vocab_size = config.model_vocab_size(ids)
    if isinstance(vocab_size, int) and vocab_size < ids:
        problems.append(
            f"model.config.vocab_size = {vocab_size}: the tokenizer has {ids} ids; make it at "
            "least as large, "
            "or leave it out to have it derived"
        )
    if problems:
        raise ConfigError(problems)
    kind = CONFIG_MAPPING[architecture]
    values = {**_with_floats(settings, kind().to_dict()), "vocab_size": vocab_size}
    values |= {"bos_token_id": end, "eos_token_id": end}
    values.pop(ATTENTION, None)
    try:
        return kind(**values)
    except Exception as error:  # whatever the architecture's own checks raise
        raise ConfigError(
            [f"model.config: {architecture} refuses it: {library_message(error)}"]
        ) from None


def _with_floats(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with whole numbers as floats where the architecture's own value is one:
    transformers refuses a 0."""
    return {
        name: float(value) if type(value) is int and isinstance(usual.get(name), float) else value
        for name, value in settings.items()
    }


def library_message(error: Exception) -> str:
    """Return what an exception of transformers says, on one line and with its type where it says
    little."""
    text = one_line(error)
    return text if " " in text else f"{type(error).__name__}: {text}"


def _pretrained_config(config: RunConfig, ids: int) -> PretrainedConfig:
    """Return the config in a transformers folder, with what the run file says of how the model is
    run.

    Raises ConfigError where there is none of a causal language model that transformers itself
    knows, or where an entry of `model.config` would make another model of it; DataError where the
    folder brings code.
    """
    folder = config.model.pretrained
    assert folder is not None
    known = "name a transformers folder of a causal language model"
    model = open_config(folder, f"model.pretrained = {folder}")
    if type(model) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            [
                f"model.pretrained = {folder}: {model.model_type} is no causal language model; "
                f"{known}"
            ]
        )
    names = {*model.to_dict(), *model.attribute_map, ATTENTION}
    problems = [
        f"model.config.{key}: {'would make another model of' if key in names else 'is no setting of'} that in "
        f"model.pretrained = {folder}; remove it"
        for key in config.model.config
        if key not in names or not RUN_TIME_SETTINGS.fullmatch(key)
    ]
    if model.vocab_size < ids:
        problems.append(
            f"model.pretrained = {folder}: has {model.vocab_size} rows for the tokenizer's {ids} "
            "ids"
        )
    if problems:
        raise ConfigError(problems)
    for key, value in _with_floats(config.model.config, model.to_dict()).items():
        if key != ATTENTION:
            setattr(model, key, value)
    return model
