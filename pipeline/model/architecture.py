"""The transformers config of the run's model: a new one, or one read from a transformers folder."""

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, one_line
from pipeline.model.config_differences import RUN_TIME_SETTINGS
from pipeline.model.model_rules import ATTENTION, architecture_problems, setting_problems
from pipeline.model.vocabulary import finished_vocabulary
from pipeline.store.pretrained_folders import open_config
from pipeline.store.records import Json


def model_config(config: RunConfig, vocabulary: tuple[int, int] | None = None) -> PretrainedConfig:
    """Return the transformers config of the run's model.

    `vocabulary` is the number of ids and the end-of-document id, by default the tokenizer's. Raises
    ConfigError for an unknown architecture or key, values that transformers refuses, heads that do
    not fit the width, too small a vocabulary, and fewer positions than `data.sequence_length`.
    """
    ids, end = vocabulary or finished_vocabulary(config)
    model = (
        _pretrained_config(config, ids)
        if config.model.pretrained
        else _new_config(config, ids, end)
    )

    # The model has to see a whole sequence.
    positions = getattr(model, "max_position_embeddings", None)
    if positions is not None and positions < config.data.sequence_length:
        setting = model.attribute_map.get("max_position_embeddings", "max_position_embeddings")
        raise ConfigError(
            [
                f"model.config.{setting} = {positions}: must be at least data.sequence_length = "
                f"{config.data.sequence_length}; raise it, leave it out for the architecture's "
                f"own, or set data.sequence_length = {positions}"
            ]
        )
    return model


def _new_config(config: RunConfig, ids: int, end: int) -> PretrainedConfig:
    """Return the config of a new model of `model.architecture`.

    Raises ConfigError for an unknown architecture or key, a vocabulary smaller than the
    tokenizer's, and values that transformers refuses.
    """
    # Name wrong settings by the run file's names, before transformers sees them.
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
            "least as large, or leave it out to have it derived"
        )
    if problems:
        raise ConfigError(problems)

    # Build the config. How attention is computed is no part of it.
    kind = CONFIG_MAPPING[architecture]
    values: dict[str, Any] = {**_with_floats(settings, kind().to_dict())}
    values["vocab_size"] = vocab_size
    values["bos_token_id"] = end
    values["eos_token_id"] = end
    values.pop(ATTENTION, None)
    try:
        return kind(**values)
    except Exception as error:  # whatever the architecture's own checks raise
        raise ConfigError(
            [f"model.config: {architecture} refuses it: {library_message(error)}"]
        ) from None


def _with_floats(settings: Mapping[str, Json], defaults: Mapping[str, Json]) -> dict[str, Json]:
    """Return settings with whole numbers as floats where the architecture's default is a float.

    Transformers refuses 0 where it expects 0.0.
    """
    converted = dict(settings)
    for name, value in settings.items():
        if type(value) is int and isinstance(defaults.get(name), float):
            converted[name] = float(value)
    return converted


def library_message(error: Exception) -> str:
    """Return the message of a library's exception on one line; after its type if it is one word."""
    text = one_line(error)
    if " " in text:
        return text
    return f"{type(error).__name__}: {text}"


def _pretrained_config(config: RunConfig, ids: int) -> PretrainedConfig:
    """Return the config in a transformers folder, with the run file's run-time settings.

    Raises ConfigError where the folder's model is no causal language model that transformers knows,
    where an entry of `model.config` would change the model's function, and where the tokenizer has
    more ids than the model; DataError where the folder brings code.
    """
    # Open the folder.
    folder = config.model.pretrained
    assert folder is not None
    model = open_config(folder, f"model.pretrained = {folder}")
    if type(model) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            [
                f"model.pretrained = {folder}: {model.model_type} is not a causal language model; "
                "set it to a transformers folder of a causal language model"
            ]
        )

    # Refuse settings that do not leave the folder's model what it is.
    names = {*model.to_dict(), *model.attribute_map, ATTENTION}
    problems: list[str] = []
    for key in config.model.config:
        if key not in names:
            reason = "is not a setting of the model"
        elif not RUN_TIME_SETTINGS.fullmatch(key):
            reason = "would change the model"
        else:
            continue
        problems.append(f"model.config.{key}: {reason} in model.pretrained = {folder}; remove it")
    if model.vocab_size < ids:
        problems.append(
            f"model.pretrained = {folder}: has {model.vocab_size} rows for the tokenizer's {ids} "
            "ids"
        )
    if problems:
        raise ConfigError(problems)

    # Take over the others.
    for key, value in _with_floats(config.model.config, model.to_dict()).items():
        if key != ATTENTION:
            setattr(model, key, value)
    return model
