"""The model: any causal language model of transformers, from its config, with weights that depend on the seed alone.

Every module's initial weights are drawn by transformers' own rule for that architecture from a generator seeded by
(seed, module name): the same on any number of ranks and at every ZeRO stage, also where ZeRO 3 builds it sharded.
"""

import hashlib
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.integrations.deepspeed import HfDeepSpeedConfig

from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.sampling.dataset import tokenizer_size
from pipeline.training.costs import ModelSize

ATTENTION = "attn_implementation"
"""Entry of `model.config` that says how the model is run, not what it is: no part of the config that is exported."""


def model_config(config: RunConfig) -> PretrainedConfig:
    """Return the transformers config. Raises ConfigError for an unknown architecture or key, or too small a vocabulary."""
    if config.model.architecture not in CONFIG_MAPPING:
        raise ConfigError(
            [
                f"model.architecture = {config.model.architecture!r}: transformers knows no such model type; for example llama"
            ]
        )
    kind = CONFIG_MAPPING[config.model.architecture]
    known = {*kind().to_dict(), *kind.attribute_map, ATTENTION}
    problems = [
        f"model.config.{key}: {config.model.architecture} has no such setting; it has {', '.join(sorted(known))}"
        for key in config.model.config
        if key not in known
    ]
    needed, end = tokenizer_size(config.paths.data_dir / "tokenizer")
    vocab_size = config.model_vocab_size(needed)
    if vocab_size < needed:
        problems.append(
            f"model.config.vocab_size = {vocab_size}: the tokenizer has {needed} ids; make it at least as large, "
            "or leave it out to have it derived"
        )
    if problems:
        raise ConfigError(problems)
    settings = {**config.model.config, "vocab_size": vocab_size, "bos_token_id": end, "eos_token_id": end}
    settings.pop(ATTENTION, None)
    model = kind(**settings)
    positions = getattr(model, "max_position_embeddings", None)
    if positions is not None and positions < config.data.sequence_length:
        raise ConfigError(
            [
                f"model.config.max_position_embeddings = {positions}: must be at least data.sequence_length = "
                f"{config.data.sequence_length}"
            ]
        )
    return model


def count_parameters(config: PretrainedConfig) -> int:
    """Return the number of trainable parameters, tied ones once, without allocating any."""
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def model_size(config: PretrainedConfig, parameters: int) -> ModelSize:
    """Return what decides the FLOPs of a model of so many parameters."""
    head = config.vocab_size * config.hidden_size
    looked_up = 0 if config.tie_word_embeddings else head
    heads = getattr(config, "num_attention_heads", 0)
    # Some architectures (Qwen3) have heads of another width than hidden_size / heads.
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads) if heads else 0
    return ModelSize(parameters - looked_up, head, config.num_hidden_layers, width)


def build_model(config: RunConfig, architecture: PretrainedConfig, resolved: dict[str, Any]) -> PreTrainedModel:
    """Build the model in fp32 with its initial weights; sharded over the ranks at ZeRO stage 3.

    Raises ConfigError where its attention cannot run as asked, for example for want of a library.
    """
    # transformers shards the construction itself while this object lives; `zero.Init` alone would skip the initialisation.
    sharded = HfDeepSpeedConfig(resolved) if resolved["zero_optimization"]["stage"] == 3 else None
    attention = {ATTENTION: config.model.config[ATTENTION]} if ATTENTION in config.model.config else {}
    try:
        model = AutoModelForCausalLM.from_config(architecture, dtype=torch.float32, **attention)
    except (ImportError, ValueError) as error:
        if not attention:
            raise
        raise ConfigError(
            [f"model.config.{ATTENTION} = {attention[ATTENTION]!r}: {error}; leave it out for transformers' own choice"]
        ) from None
    del sharded
    initialise(model, config.train.seed, is_sharded=resolved["zero_optimization"]["stage"] == 3)
    if config.train.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.config.use_cache = False
    return model


@torch.no_grad()
def initialise(model: PreTrainedModel, seed: int, is_sharded: bool) -> None:
    """Draw every parameter anew, module by module, by the architecture's rule. Leaves torch's random state changed."""
    drawn: set[int] = set()
    # Children first, as transformers does: some architectures scale their children's weights in a module's own rule.
    for name, module in reversed(list(model.named_modules())):
        own = list(module.parameters(recurse=False))
        if own and all(id(parameter) in drawn for parameter in own):  # the second name of tied weights
            continue
        drawn.update(map(id, own))
        below = [p for child in module.children() for p in child.parameters(recurse=False)]
        with _gathered([*own, *below]) if is_sharded and (own or below) else nullcontext():
            digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
            torch.manual_seed(int.from_bytes(digest, "little") >> 1)
            model._init_weights(module)


def _gathered(parameters: list[torch.nn.Parameter]) -> Any:
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters, modifier_rank=0)
