"""Build any causal language model of transformers, with initial or given weights.

The initial weights of every module are drawn by transformers' own rule for the architecture, from a
generator seeded by (seed, module name), then scaled by the factors of `parametrisation`. So they
are the same on any number of ranks and at every ZeRO stage, also where ZeRO 3 builds the model
sharded.
"""

import hashlib
from collections.abc import Generator, Mapping
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
    sharding: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """Build the model in fp32 with given or initial weights.

    `sharding` is the DeepSpeed config with which ZeRO 3 shards each parameter during construction;
    with None each rank builds the whole model. Raises ConfigError where the attention of the run
    file cannot run, for example because a library is missing, and where `parametrisation.scalings`
    or `objective.structure_problems` refuse the model.
    """
    # transformers shards the construction while the HfDeepSpeedConfig object lives; `zero.Init`
    # alone would skip the initialisation.
    is_sharded = sharding is not None
    alive = None
    if sharding is not None:
        alive = HfDeepSpeedConfig(dict(sharding))
    try:
        model = _from_config(architecture, attention_choice(config))
    except (ImportError, ValueError) as error:
        asked = config.model.config.get(ATTENTION)
        if asked is not None:
            raise ConfigError(
                [
                    f"model.config.{ATTENTION} = {asked!r}: {error}; leave it out to use what is available"
                ]
            ) from None
        model = _from_config(architecture, None)  # this architecture has no flash-attention
    del alive

    # Refuse a model whose own objective is not the one trained here.
    problems = structure_problems(config, model)
    if problems:
        raise ConfigError(problems)

    # Give every parameter its value.
    _let_every_id_learn(model)
    if weights is None:
        initialise(model, config, is_sharded)
    else:
        put_weights(model, weights, is_sharded)

    # How the model runs while it is trained.
    if config.train.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.config.use_cache = False
    return model


def _let_every_id_learn(model: PreTrainedModel) -> None:
    """Remove padding ids from embeddings, so that every row is initialised and trained.

    gemma, opt and others have a default padding id, whose row torch would leave at zero and without
    gradient. Rows of tokens are never padded here, so that id is one of the text.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None


def attention_choice(config: RunConfig) -> str | None:
    """Return how attention runs, by transformers' name; None leaves the choice to transformers.

    The run file's setting comes first. Without one, documents that are masked on a GPU get
    flash-attention where its library is installed, because a mask keeps SDPA from its own flash
    kernel. transformers chooses SDPA where the model has it.
    """
    asked = config.model.config.get(ATTENTION)
    if asked is not None:
        return asked
    is_masked = (
        config.data.document_mask and config.precision.dtype != "fp32" and torch.cuda.is_available()
    )
    if is_masked and is_flash_attn_2_available():
        return "flash_attention_2"
    return None


def _from_config(architecture: PretrainedConfig, attention: str | None) -> PreTrainedModel:
    """Build a model in fp32, with weights of transformers' drawing."""
    return new_model(architecture, torch.float32, attention)


@torch.no_grad()
def initialise(model: PreTrainedModel, config: RunConfig, is_sharded: bool) -> None:
    """Draw every parameter again, module by module, and scale it by the factor of `scalings`.

    Leaves torch's random state changed, that of GPUs too.
    """
    # The factor of each parameter.
    parameters = dict(model.named_parameters())
    factors = {
        id(parameters[name]): scaling.init for name, scaling in scalings(config, model).items()
    }

    # Children first, as transformers does: the rule of some modules draws their children's weights
    # again.
    drawn = set[int]()
    seed = 0
    for name, module in reversed(list(model.named_modules())):
        own = list(module.parameters(recurse=False))
        is_second_name = bool(own) and all(id(parameter) in drawn for parameter in own)
        if is_second_name:  # of tied weights
            continue
        drawn.update(map(id, own))
        below = [p for child in module.children() for p in child.parameters(recurse=False)]
        access = nullcontext()
        if is_sharded and (own or below):
            access = _whole_on_host([*own, *below])
        with access:
            # Draw from the module's own seed, and see what was written: torch counts the writes.
            # torch.manual_seed would note a stack of calls for each kind of device each time.
            digest = hashlib.blake2b(f"{config.train.seed}/{name}".encode(), digest_size=8).digest()
            seed = int.from_bytes(digest, "little") >> 1
            torch.default_generator.manual_seed(seed)
            versions = [parameter._version for parameter in below]
            model._init_weights(module)
            again = [p for p, version in zip(below, versions, strict=True) if p._version != version]
            for parameter in [*own, *again]:
                if factors[id(parameter)] != 1:
                    parameter.mul_(factors[id(parameter)])
    torch.cuda.manual_seed_all(seed)


@contextmanager
def _whole_on_host(parameters: list[torch.nn.Parameter]) -> Generator[None]:
    """Gather sharded parameters in fp32 on the CPU for writing; shard rank 0's values afterwards.

    ZeRO 3 keeps parameters in the format and on the device of training, where the same seed draws
    other numbers.
    """
    with gathered_parameters(parameters):
        held = [parameter.data for parameter in parameters]
        for parameter in parameters:
            parameter.data = parameter.data.to("cpu", torch.float32)
        yield
        for parameter, data in zip(parameters, held, strict=True):
            data.copy_(parameter.data)
            parameter.data = data
