"""Factors of each parameter's initial scale, learning rate and weight decay, by depth and width.

By depth, projections that write into the residual stream begin smaller by sqrt(2 layers)
(`model.scale_residual_init`). By width, muP (`model.mup`) makes a learning rate that was tuned on a
narrow model right for a wide one. All of muP is in the three factors, so that the forward pass, and
with it the exported model, is the architecture's own. README.md has the table and the derivation.
Free of torch, so that refusals come at once.
"""

import re
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING

from pipeline.config.optimizer_rules import optimizer_rules
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.model.costs import head_width

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Scaling:
    """Factors on the settings for one parameter."""

    init: float = 1.0
    """Factor on the initial values that the architecture's own rule draws."""
    learning_rate: float = 1.0
    """Factor on the scheduled learning rate."""
    weight_decay: float = 1.0
    """Factor on `optimizer.weight_decay`, for parameters that are decayed."""


INTO_RESIDUAL = {
    "attention": (
        "self_attn.o_proj", "self_attn.out_proj", "self_attn.dense", "self_attention.dense", "attention.dense",
        "attn.out_proj", "attn.attention.out_proj", "attn.c_proj",
    ),
    "MLP": (
        "mlp.down_proj", "mlp.experts.down_proj", "mlp.dense_4h_to_h", "mlp.fc2", "fc2", "mlp.fc_out", "mlp.c_proj",
        "ffn.down_proj",
    ),
}  # fmt: skip
"""transformers' names, within a layer, of the projections that write into the residual stream."""
SCALED_BY_TRANSFORMERS = ("gpt2", "gpt_bigcode", "modernbert-decoder", "nanochat")
"""Architectures whose own rule already has the factor.

Their modeling files draw with `initializer_range / sqrt(2 * layers)`; nanochat's for the attention
alone.
"""
NORMS_OF_WHAT_IS_WRITTEN = ("post_feedforward_layernorm", "post_mlp_layernorm")
"""Modules that undo any scale of the projections before them, as in olmo2, gemma2 and glm4."""

HEAD = "lm_head.weight"
"""The output matrix of each of `ARCHITECTURES`; absent where it is the embedding."""


@dataclass(frozen=True)
class MupNames:
    """An architecture's names of the parameters that have rules of their own under muP."""

    embeddings: tuple[str, ...]
    hidden: tuple[str, ...]
    """Matrices from width to width, by the ends of their names."""
    query: str | None
    """Module that sets the scale of the queries; None where q, k and v are one matrix."""
    final_norm: str
    """Beginning of the names of the last norm's parameters."""


LLAMA = MupNames(
    embeddings=("model.embed_tokens.weight",),
    hidden=tuple(f".self_attn.{x}_proj.weight" for x in "qkvo")
    + tuple(f".mlp.{x}_proj.weight" for x in ("gate", "up", "down")),
    query=".self_attn.q_proj.",
    final_norm="model.norm.",
)
ARCHITECTURES = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": replace(LLAMA, query=".self_attn.q_norm."),
    "gpt_neox": MupNames(
        embeddings=("gpt_neox.embed_in.weight",),
        hidden=(
            ".attention.query_key_value.weight",
            ".attention.dense.weight",
            ".mlp.dense_h_to_4h.weight",
            ".mlp.dense_4h_to_h.weight",
        ),
        query=None,
        final_norm="gpt_neox.final_layer_norm.",
    ),
    "gpt2": MupNames(
        embeddings=("transformer.wte.weight", "transformer.wpe.weight"),
        hidden=(
            ".attn.c_attn.weight",
            ".attn.c_proj.weight",
            ".mlp.c_fc.weight",
            ".mlp.c_proj.weight",
        ),
        query=None,
        final_norm="transformer.ln_f.",
    ),
}
"""Architectures for which muP is offered.

It is a list because names do not show what a forward pass multiplies by: gemma multiplies by the
root of the width, granite and cohere by constants, olmo2 normalises what each layer adds.
"""


def refuse_mup(config: RunConfig) -> None:
    """Raise ConfigError if `model.mup` is set where muP is not offered.

    What depends on the model's sizes is refused by `scalings`.
    """
    if config.model.mup and config.model.pretrained is not None:
        raise ConfigError(
            [
                "model.mup = true: scales how a model begins, and model.pretrained has begun; set "
                "model.mup to false"
            ]
        )
    if config.model.mup and config.model.architecture not in ARCHITECTURES:
        raise ConfigError(
            [
                f"model.mup = true: offered for {', '.join(ARCHITECTURES)}, not for "
                f"model.architecture = {config.model.architecture}; set model.mup to "
                "false, and tune the learning rate at full width"
            ]
        )


def scalings(config: RunConfig, model: "PreTrainedModel") -> dict[str, Scaling]:
    """Return the factors of every parameter, by the names of `model.named_parameters()`.

    The model may be sharded or on torch's meta device. Raises ConfigError, with the remedy, where
    `model.scale_residual_init` or `model.mup` cannot be applied to the architecture.
    """
    refuse_mup(config)
    dimensions = {
        name: len(getattr(p, "ds_shape", p.shape)) for name, p in model.named_parameters()
    }
    residual: dict[str, float] = {}
    if config.model.pretrained is None and config.model.scale_residual_init:
        residual = _residual_factors(model)
    by_width: dict[str, Scaling] = {}
    if config.model.mup:
        by_width = _factors_by_width(config, model.config, dimensions)
    factors: dict[str, Scaling] = {}
    for name in dimensions:
        scaling = by_width.get(name, Scaling())
        factors[name] = replace(scaling, init=scaling.init * residual.get(name, 1.0))
    return factors


def _residual_factors(model: "PreTrainedModel") -> dict[str, float]:
    """Return 1 / sqrt(2 layers) for each weight that writes into the residual stream, by name.

    Each layer has two such weights. Raises ConfigError where they cannot be found by their names,
    and where the layer normalises what it adds.
    Source: Radford et al. 2019, section 2.3 (GPT-2).
    """
    # Architectures for which the factor would be wrong or without effect.
    architecture = model.config.model_type
    layers = model.config.num_hidden_layers
    if architecture in SCALED_BY_TRANSFORMERS:
        return {}
    remedy = (
        f"set model.scale_residual_init to false: then {architecture} begins as transformers' own "
        "rule has it"
    )
    if any(name.endswith(NORMS_OF_WHAT_IS_WRITTEN) for name, _ in model.named_modules()):
        raise ConfigError(
            [
                f"model.scale_residual_init = true: {architecture} normalises what its layers add, "
                f"whatever its scale; {remedy}"
            ]
        )

    # Find the weights: one of each kind in every layer.
    factors: dict[str, float] = {}
    for kind, ends in INTO_RESIDUAL.items():
        names = _names_by_layer(model, ends)
        if len(names) != layers or any(len(of_layer) > 1 for of_layer in names.values()):
            raise ConfigError(
                [
                    f"model.scale_residual_init = true: the projection that ends the {kind} is "
                    f"known by name in {len(names)} of the {layers} layers of {architecture}; "
                    f"{remedy}"
                ]
            )
        factors |= {name: 1 / sqrt(2 * layers) for of_layer in names.values() for name in of_layer}
    return factors


def _names_by_layer(model: "PreTrainedModel", ends: tuple[str, ...]) -> dict[str, list[str]]:
    """Return by layer the parameters whose name within the layer is one of some modules' names."""
    names: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        layer = re.match(r"(.*?\.\d+)\.(.+)", name)
        if layer and layer[2].removesuffix(".weight") in ends:
            names.setdefault(layer[1], []).append(name)
    return names


def _factors_by_width(
    config: RunConfig, architecture: "PretrainedConfig", dimensions: dict[str, int]
) -> dict[str, Scaling]:
    """Return muP's factors relative to a model of width `mup_base_width`, by parameter.

    `dimensions` are the dimensions of each parameter. Raises ConfigError for matrices without a
    rule.
    Source: Yang et al. 2022, arXiv:2203.03466, tables 3 and 8; the factor on the learning rate of
    hidden matrices depends on the optimizer.
    """
    assert config.model.architecture is not None
    names = ARCHITECTURES[config.model.architecture]
    base = config.model.mup_base_width
    assert base is not None, "checked when the run file was loaded"
    width = architecture.hidden_size / base
    query = _query_factor(config, architecture, names)
    is_tied = HEAD not in dimensions

    # The rule of each parameter, as in the README's table.
    factors: dict[str, Scaling] = {}
    unknown: list[str] = []
    for name, count in dimensions.items():
        init = 1.0
        learning_rate = 1.0
        if name == HEAD:
            init = 1 / width
            learning_rate = 1 / width
        elif name.endswith(names.hidden):
            init = width**-0.5
            learning_rate = optimizer_rules(config.optimizer).hidden_matrix_rate(width)
        elif is_tied and name.startswith(names.final_norm):
            init = 1 / width
            learning_rate = 1 / width
        elif count >= 2 and name not in names.embeddings:
            unknown.append(name)
        if names.query and names.query in name:
            init = init * query
            learning_rate = learning_rate * query
        # The product of learning rate and decay stays as in the base model.
        factors[name] = Scaling(init, learning_rate, 1 / learning_rate)
    if unknown:
        raise ConfigError(
            [
                f"model.mup = true: no rule for {', '.join(unknown)}; set model.mup to false or "
                "change what adds them"
            ]
        )
    return factors


def _query_factor(config: RunConfig, architecture: "PretrainedConfig", names: MupNames) -> float:
    """Return the factor on queries that turns attention's 1 / sqrt(head_dim) into muP's scale.

    muP's scale is sqrt(base head_dim) / head_dim. Raises ConfigError where the queries of wider
    heads cannot be scaled alone.
    """
    size = head_width(architecture)
    base = config.model.mup_base_head_dim or size
    if base != size and names.query is None:
        raise ConfigError(
            [
                f"model.mup_base_head_dim = {base}: the heads of this model are {size} wide, and "
                f"{config.model.architecture} keeps queries, keys and values in one matrix, where "
                "the queries cannot be scaled alone; keep the width of a head and change "
                "num_attention_heads"
            ]
        )
    return sqrt(base / size)
