"""What width and depth do to each parameter: its initial scale, its learning rate, its weight
decay.

Two rules. The projections that write into the residual stream begin smaller by sqrt(2 layers)
(`model.scale_residual_init`). muP (`model.mup`) lets a learning rate that was tuned on a narrow
model hold for a wide one; it is folded into these three numbers of each parameter, so that the
forward pass, and with it the exported model, is the architecture's own. README.md has the table and
the derivation. Free of torch, so that a refusal comes at once.
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
    """Factors of one parameter, on what the settings say."""

    init: float = 1.0
    """On the initial values that the architecture's own rule draws."""
    learning_rate: float = 1.0
    """On the scheduled learning rate."""
    weight_decay: float = 1.0
    """On `optimizer.weight_decay`, where the parameter is decayed at all."""


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
"""Names, below a layer, that transformers gives the projections whose output is added to the
residual stream."""
SCALED_BY_TRANSFORMERS = ("gpt2", "gpt_bigcode", "modernbert-decoder", "nanochat")
"""Architectures whose own rule has the factor already (`initializer_range / sqrt(2 * layers)` in
their modeling file; nanochat's for the attention alone)."""
NORMS_OF_WHAT_IS_WRITTEN = ("post_feedforward_layernorm", "post_mlp_layernorm")
"""Modules that undo any scale of the projections before them: olmo2, gemma2, glm4 and their
like."""

HEAD = "lm_head.weight"
"""The output matrix in every one of `ARCHITECTURES`; absent where it is the embedding."""


@dataclass(frozen=True)
class MupNames:
    """How an architecture names what muP treats differently."""

    embeddings: tuple[str, ...]
    hidden: tuple[str, ...]
    """Matrices from width to width, by the ends of their names."""
    query: str | None
    """The part that sets the scale of the queries alone; None where queries, keys and values are
    one matrix."""
    final_norm: str


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
"""Architectures for which muP is offered. A list, because names do not tell what a forward pass
multiplies by: gemma by the root of the width, granite and cohere by constants, olmo2 normalises
what each layer adds."""


def refuse_mup(config: RunConfig) -> None:
    """Raise ConfigError if muP is asked for where it is not offered. What hangs on sizes,
    `scalings` refuses."""
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
                "model.architecture = "
                f"{config.model.architecture}; set model.mup to false, and tune the learning rate "
                "at full width"
            ]
        )


def scalings(config: RunConfig, model: "PreTrainedModel") -> dict[str, Scaling]:
    """Return the factors of every parameter, by the names of `model.named_parameters()`; the model
    may be sharded or on meta.

    Raises ConfigError where the architecture has no place for what is asked, with what to set
    instead.
    """
    refuse_mup(config)
    dimensions = {
        name: len(getattr(p, "ds_shape", p.shape)) for name, p in model.named_parameters()
    }
    draws = config.model.pretrained is None  # else the weights are given
    residual = _residual_factors(model) if draws and config.model.scale_residual_init else {}
    by_width = _by_width(config, model.config, dimensions) if config.model.mup else {}
    found = {}
    for name in dimensions:
        scaling = by_width.get(name, Scaling())
        found[name] = replace(scaling, init=scaling.init * residual.get(name, 1.0))
    return found


def _residual_factors(model: "PreTrainedModel") -> dict[str, float]:
    """Return 1 / sqrt(2 layers) for each weight that writes into the residual stream, two of them a
    layer.

    Source: Radford et al. 2019, section 2.3 (GPT-2).
    """
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
    places: dict[str, dict[str, list[str]]] = {kind: {} for kind in INTO_RESIDUAL}
    for name, _ in model.named_parameters():
        layer = re.match(r"(.*?\.\d+)\.(.+)", name)
        for kind, ends in INTO_RESIDUAL.items():
            if layer and layer[2].removesuffix(".weight") in ends:
                places[kind].setdefault(layer[1], []).append(name)
    for kind, names in places.items():
        if len(names) != layers or any(len(of_layer) > 1 for of_layer in names.values()):
            raise ConfigError(
                [
                    f"model.scale_residual_init = true: the projection that ends the {kind} is "
                    "known by name in "
                    f"{len(names)} of the {layers} layers of {architecture}; {remedy}"
                ]
            )
    return {
        n: 1 / sqrt(2 * layers)
        for of_kind in places.values()
        for names in of_kind.values()
        for n in names
    }


def _by_width(
    config: RunConfig, architecture: "PretrainedConfig", dimensions: dict[str, int]
) -> dict[str, Scaling]:
    """Return muP's factors against the model of `mup_base_width`.

    Source: Yang et al. 2022, arXiv:2203.03466, tables 3 and 8; the rate of hidden matrices
    is the optimizer's own.
    """
    assert config.model.architecture is not None
    names = ARCHITECTURES[config.model.architecture]
    base = config.model.mup_base_width
    assert base is not None, "checked when the run file was loaded"
    width = architecture.hidden_size / base
    query = _query_factor(config, architecture, names)
    tied = HEAD not in dimensions
    found = {}
    unknown = []
    for name, count in dimensions.items():
        init = learning_rate = 1.0
        if name == HEAD:
            init = learning_rate = 1 / width
        elif name.endswith(names.hidden):
            init = width**-0.5
            learning_rate = optimizer_rules(config.optimizer).hidden_matrix_rate(width)
        elif tied and name.startswith(names.final_norm):
            init = learning_rate = 1 / width
        elif count >= 2 and name not in names.embeddings:
            unknown.append(name)
        if names.query and names.query in name:
            init = init * query
            learning_rate = learning_rate * query
        found[name] = Scaling(
            init, learning_rate, 1 / learning_rate
        )  # learning rate x decay stays as at the base
    if unknown:
        raise ConfigError(
            [
                f"model.mup = true: no rule for {', '.join(unknown)}; set model.mup to false or "
                "change what adds them"
            ]
        )
    return found


def _query_factor(config: RunConfig, architecture: "PretrainedConfig", names: MupNames) -> float:
    """Return what makes 1 / sqrt(head_dim) in the attention muP's sqrt(base head_dim) /
    head_dim."""
    size = head_width(architecture)
    base = config.model.mup_base_head_dim or size
    if base != size and names.query is None:
        raise ConfigError(
            [
                f"model.mup_base_head_dim = {base}: the heads of this model are {size} wide, and "
                f"{config.model.architecture} keeps queries, keys and values in one matrix, where "
                "the queries cannot be "
                f"scaled alone; keep the width of a head and change num_attention_heads"
            ]
        )
    return sqrt(base / size)
