"""Count a model's parameters, on torch's meta device, where nothing is allocated."""

import re
import warnings
from dataclasses import dataclass

from accelerate import init_empty_weights
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from pipeline.config.optimizer_rules import optimizer_rules
from pipeline.config.run_config import RunConfig
from pipeline.model.costs import ModelSize, head_width
from pipeline.store.pretrained_folders import new_model

EXPERTS = re.compile(r"\.experts\.")
"""Names of the parameters of routed experts; those of shared experts, which every token takes, are
named otherwise."""
COUNTS_OF_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Names in configs of the number of routed experts of a layer."""


@dataclass(frozen=True)
class ModelParameters:
    """Parameter counts of a model; tied parameters count once."""

    total: int
    embedding: int
    """Parameters of embeddings (tokens, learned positions) and of the output head, tied or not."""
    looked_up: int
    """Parameters of embeddings that no matrix product reads: a tied one is not among them."""
    one_dimensional: int = 0
    """Parameters of norms and biases, which multiply no matrix."""
    idle: int = 0
    """Parameters of the experts that a token does not go through; 0 for a dense model."""

    @property
    def multiplying(self) -> int:
        """Parameters that take part in the computation for a token: the N of model FLOPs."""
        return self.total - self.looked_up

    @property
    def active(self) -> int:
        """Parameters that one token goes through; all that multiply, in a dense model."""
        return self.multiplying - self.idle

    @property
    def non_embedding(self) -> int:
        """Parameters between embedding and head: the N of Kaplan et al. 2020 (arXiv:2001.08361)."""
        return self.total - self.embedding


def build_on_meta(config: PretrainedConfig) -> PreTrainedModel:
    """Build a causal language model whose parameters have shapes and no values."""
    with init_empty_weights(), warnings.catch_warnings():
        # torch warns that drawing initial weights on the meta device does nothing.
        warnings.simplefilter("ignore")
        model = new_model(config)
    model.tie_weights()
    return model


def count_parameters(config: PretrainedConfig) -> ModelParameters:
    """Count the parameters of the causal language model that a config describes."""
    return count_built_parameters(build_on_meta(config))


def count_built_parameters(model: PreTrainedModel) -> ModelParameters:
    """Count the parameters of a model that has been built, on any device."""
    tables = {
        id(p): p.numel()
        for m in model.modules()
        if isinstance(m, nn.Embedding)
        for p in m.parameters()
    }
    output = model.get_output_embeddings()
    head: dict[int, int] = {}
    if output is not None:
        head = {id(p): p.numel() for p in output.parameters()}
    return ModelParameters(
        total=sum(parameter.numel() for parameter in model.parameters()),
        embedding=sum((tables | head).values()),
        looked_up=sum(count for table, count in tables.items() if table not in head),
        one_dimensional=sum(p.numel() for p in model.parameters() if p.dim() == 1),
        idle=_idle_parameters(model),
    )


def _idle_parameters(model: PreTrainedModel) -> int:
    """Return the parameters of routed experts that a token does not go through.

    Every layer of experts has equal ones, of which a token takes `num_experts_per_tok`.
    """
    text = model.config.get_text_config()
    taken = getattr(text, "num_experts_per_tok", None)
    if taken is None:
        return 0
    routed = sum(
        parameter.numel() for name, parameter in model.named_parameters() if EXPERTS.search(name)
    )
    count = next(getattr(text, name) for name in COUNTS_OF_EXPERTS if hasattr(text, name))
    return routed - routed * taken // count


def model_size(config: PretrainedConfig, sizes: ModelParameters) -> ModelSize:
    """Return the sizes that decide the FLOPs of a model."""
    heads = getattr(config, "num_attention_heads", 0)
    width = 0
    if heads:
        width = heads * head_width(config)
    head = config.vocab_size * config.hidden_size
    return ModelSize(sizes.multiplying, head, config.num_hidden_layers, width)


def moment_bytes(config: RunConfig, sizes: ModelParameters) -> float:
    """Return the bytes of optimizer states per parameter, averaged over the model."""
    share = sizes.non_embedding / sizes.total
    return optimizer_rules(config.optimizer).moment_bytes(share)
