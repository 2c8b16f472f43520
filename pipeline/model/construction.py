"""Builds any causal language model of transformers, with weights that depend on the seed alone, or
with given ones.

Every module's initial weights are drawn by transformers' own rule for that architecture from a
generator seeded by (seed, module name), then scaled as `parametrisation` says: the same on any
number of ranks and at every ZeRO stage, also where ZeRO 3 builds it sharded.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.integrations.deepspeed import HfDeepSpeedConfig
from transformers.utils.import_utils import is_flash_attn_2_available

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.model.given_weights import GivenWeights, gathered_parameters, put_weights
from pipeline.model.model_rules import ATTENTION
from pipeline.model.objective import structure_problems
from pipeline.model.parametrisation import scalings
from pipeline.store.pretrained_folders import new_model


def build_model(
    config: RunConfig,
    architecture: PretrainedConfig,
    weights: GivenWeights | None = None,
    sharding: dict[str, Any] | None = None,
) -> PreTrainedModel:
    """Build the model in fp32 with given or initial weights.

    `sharding` is the DeepSpeed config by which ZeRO 3 divides each parameter among the ranks while
    the model is built; None builds all of it on each rank.
    Raises ConfigError where its attention cannot run as asked, for example for want of a library,
    and where `parametrisation.scalings` and `objective.structure_problems` do.
    """
    # transformers shards the construction itself while this object lives; `zero.Init` alone would
    # skip the initialisation.
    is_sharded = sharding is not None
    alive = HfDeepSpeedConfig(sharding) if is_sharded else None
    try:
        model = _from_config(architecture, attention_choice(config))
    except (ImportError, ValueError) as error:
        asked = config.model.config.get(ATTENTION)
        if asked is not None:
            raise ConfigError(
                [f"model.config.{ATTENTION} = {asked!r}: {error}; leave it out for what is at hand"]
            ) from None
        model = _from_config(architecture, None)  # this architecture has no flash-attention
    del alive
    problems = structure_problems(config, model)
    if problems:
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
    asked = config.model.config.get(ATTENTION)
    if asked is not None:
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
    scale = scalings(config, model)
    named = dict(model.named_parameters())
    factors = {id(named[name]): scaling.init for name, scaling in scale.items()}
    drawn = set[int]()
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
    with gathered_parameters(parameters):
        held = [parameter.data for parameter in parameters]
        for parameter in parameters:
            parameter.data = parameter.data.to("cpu", torch.float32)
        yield
        for parameter, data in zip(parameters, held, strict=True):
            data.copy_(parameter.data)
            parameter.data = data
