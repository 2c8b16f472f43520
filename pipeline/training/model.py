"""The model: any causal language model of transformers, from its config, with weights that depend
on the seed alone.

Every module's initial weights are drawn by transformers' own rule for that architecture from a
generator seeded by (seed, module name), then scaled as `parametrisation` says: the same on any
number of ranks and at every ZeRO stage, also where ZeRO 3 builds it sharded.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.integrations.deepspeed import HfDeepSpeedConfig
from transformers.utils.import_utils import is_flash_attn_2_available

from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import zero_stage
from pipeline.errors import ConfigError, one_line
from pipeline.model.costs import ModelSize, head_width
from pipeline.model.model_rules import ATTENTION, architecture_problems, setting_problems
from pipeline.model.objective import structure_problems
from pipeline.model.parametrisation import scalings
from pipeline.model.sizes import Sizes
from pipeline.model.vocabulary import finished_vocabulary
from pipeline.store.pretrained_folders import new_model, open_config
from pipeline.training.branch import RUN_TIME_SETTINGS
from pipeline.training.starting_weights import Weights, gathered, put_weights


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
    if problems := architecture_problems(architecture):
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
            [f"model.config: {architecture} refuses it: {said_by_library(error)}"]
        ) from None


def _with_floats(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with whole numbers as floats where the architecture's own value is one:
    transformers refuses a 0."""
    return {
        name: float(value) if type(value) is int and isinstance(usual.get(name), float) else value
        for name, value in settings.items()
    }


def said_by_library(error: Exception) -> str:
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


def model_size(config: PretrainedConfig, sizes: Sizes) -> ModelSize:
    """Return what decides the FLOPs of a model."""
    heads = getattr(config, "num_attention_heads", 0)
    width = heads * head_width(config) if heads else 0
    head = config.vocab_size * config.hidden_size
    return ModelSize(sizes.total - sizes.looked_up, head, config.num_hidden_layers, width)


def build_model(
    config: RunConfig,
    architecture: PretrainedConfig,
    resolved: dict[str, Any],
    weights: Weights | None = None,
) -> PreTrainedModel:
    """Build the model in fp32 with given or initial weights; sharded over the ranks at ZeRO stage
    3.

    Raises ConfigError where its attention cannot run as asked, for example for want of a library,
    and where `parametrisation.scalings` and `objective.structure_problems` do.
    """
    # transformers shards the construction itself while this object lives; `zero.Init` alone would
    # skip the initialisation.
    is_sharded = zero_stage(resolved) == 3
    sharded = HfDeepSpeedConfig(resolved) if is_sharded else None
    try:
        model = _from_config(architecture, attention_choice(config))
    except (ImportError, ValueError) as error:
        if (asked := config.model.config.get(ATTENTION)) is not None:
            raise ConfigError(
                [f"model.config.{ATTENTION} = {asked!r}: {error}; leave it out for what is at hand"]
            ) from None
        model = _from_config(architecture, None)  # this architecture has no flash-attention
    del sharded
    if problems := structure_problems(config, model):
        raise ConfigError(problems)
    _let_every_id_learn(model)
    if weights is None:
        initialise(model, config, is_sharded)
    else:
        put_weights(model, weights, is_sharded)
    if config.train.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.config.use_cache = False
    return model


def _let_every_id_learn(model: PreTrainedModel) -> None:
    """Have no row of an embedding stay as it is: rows here are never padded, and a config's padding
    id is one of the text's.

    gemma, opt and others have a default padding id, whose row torch would leave at zero and give no
    gradient.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None


def attention_choice(config: RunConfig) -> str | None:
    """Return how attention runs: as asked, else flash-attention where its library is and documents
    are masked on a GPU.

    There a mask would keep SDPA from its own flash kernel. None is transformers' choice: SDPA where
    the model has it.
    """
    if (asked := config.model.config.get(ATTENTION)) is not None:
        return asked
    is_masked = (
        config.data.document_mask and config.precision.dtype != "fp32" and torch.cuda.is_available()
    )
    return "flash_attention_2" if is_masked and is_flash_attn_2_available() else None


def _from_config(architecture: PretrainedConfig, attention: str | None) -> PreTrainedModel:
    chosen = {} if attention is None else {ATTENTION: attention}
    return new_model(architecture, dtype=torch.float32, **chosen)


@torch.no_grad()
def initialise(model: PreTrainedModel, config: RunConfig, is_sharded: bool) -> None:
    """Draw every parameter anew, module by module, by the architecture's rule, and scale it as
    `scalings` says.

    Leaves torch's random state changed.
    """
    scale, named = scalings(config, model), dict(model.named_parameters())
    factors, drawn = {id(named[name]): scaling.init for name, scaling in scale.items()}, set[int]()
    # Children first, as transformers does: some architectures draw their children's weights again
    # in a module's own rule.
    for name, module in reversed(list(model.named_modules())):
        own = list(module.parameters(recurse=False))
        if own and all(
            id(parameter) in drawn for parameter in own
        ):  # the second name of tied weights
            continue
        drawn.update(map(id, own))
        below = [p for child in module.children() for p in child.parameters(recurse=False)]
        with _whole_on_host([*own, *below]) if is_sharded and (own or below) else nullcontext():
            digest = hashlib.blake2b(f"{config.train.seed}/{name}".encode(), digest_size=8).digest()
            torch.manual_seed(int.from_bytes(digest, "little") >> 1)
            versions = [parameter._version for parameter in below]  # counts writes
            model._init_weights(module)
            again = [p for p, version in zip(below, versions, strict=True) if p._version != version]
            for parameter in [*own, *again]:
                if factors[id(parameter)] != 1:
                    parameter.mul_(factors[id(parameter)])


@contextmanager
def _whole_on_host(parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    """Gather sharded parameters and let them be written in fp32 on the CPU; rank 0's values are
    divided anew.

    ZeRO 3 holds them in the format and on the device of training, where the same seed draws other
    numbers.
    """
    with gathered(parameters):
        held = [parameter.data for parameter in parameters]
        for parameter in parameters:
            parameter.data = parameter.data.to("cpu", torch.float32)
        yield
        for parameter, data in zip(parameters, held, strict=True):
            data.copy_(parameter.data)
            parameter.data = data
