"""Count a model's parameters, on torch's meta device, where nothing is allocated."""

import warnings
from dataclasses import dataclass

from accelerate import init_empty_weights
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from pipeline.config.optimizer_rules import optimizer_rules
from pipeline.config.run_config import RunConfig
from pipeline.model.costs import ModelSize, head_width
from pipeline.store.pretrained_folders import new_model


@dataclass(frozen=True)
class ModelParameters:
    """Parameter counts of a model; tied parameters count once."""

    total: int
    embedding: int
    """Parameters of embeddings (tokens, learned positions) and of the output head, tied or not."""
    looked_up: int
    """Parameters of embeddings that no matrix product reads: a tied one is not among them."""

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
    )


def model_size(config: PretrainedConfig, sizes: ModelParameters) -> ModelSize:
    """Return the sizes that decide the FLOPs of a model."""
    heads = getattr(config, "num_attention_heads", 0)
    width = 0
    if heads:
        width = heads * head_width(config)
    head = config.vocab_size * config.hidden_size
    return ModelSize(sizes.total - sizes.looked_up, head, config.num_hidden_layers, width)


def moment_bytes(config: RunConfig, sizes: ModelParameters) -> float:
    """Return the bytes of optimizer states per parameter, averaged over the model."""
    share = sizes.non_embedding / sizes.total
    return optimizer_rules(config.optimizer).moment_bytes(share)
