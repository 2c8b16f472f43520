"""Divide parameters into groups by update, learning rate and weight decay."""

from typing import cast

from torch import nn
from transformers.pytorch_utils import Conv1D

from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_engine import Engine
from pipeline.engine.optimizers.optimizer_kind import (
    ParameterGroup,
    ParameterGroups,
    optimizer_kind,
)
from pipeline.model.experts import expert_modules
from pipeline.model.language_model import LanguageModel
from pipeline.model.parametrisation import scalings

LINEAR = (nn.Linear, Conv1D)
"""Layers that multiply by their weight. GPT-2's code has Conv1D, a transposed nn.Linear."""


def parameter_groups(config: RunConfig, model: LanguageModel) -> ParameterGroups:
    """Return the parameters in groups; those of a group share update, learning rate and weight decay.

    Matrices decay, vectors (norms, biases) do not (Brown et al. 2020, appendix B). Hidden matrices
    are the weights of linear layers between embeddings and head, where, unlike in embeddings, no
    row or column belongs to one token (Jordan et al. 2024). `lr_scale` multiplies the schedule's learning rate (muP).
    """
    # What decides the group of each parameter.
    settings = config.optimizer
    optimizer = optimizer_kind(settings)
    hidden = _hidden_matrices(model)
    decayed = _decayed(model.causal_lm)
    scaling = scalings(config, model.causal_lm)

    # One group for each combination, in the order of its first parameter.
    groups: dict[tuple[str, float, float], ParameterGroup] = {}
    for name, parameter in model.causal_lm.named_parameters():
        kind = optimizer.update(id(parameter) in hidden)
        rate = scaling[name].learning_rate
        decay = 0.0
        if id(parameter) in decayed:
            decay = settings.weight_decay * scaling[name].weight_decay
        key = (kind, decay, rate)
        if key not in groups:
            groups[key] = {"params": [], "kind": kind, "lr_scale": rate, "weight_decay": decay}
        groups[key]["params"].append(parameter)
    return list(groups.values())


def _hidden_matrices(model: LanguageModel) -> set[int]:
    """Return the ids of the parameters that map one hidden state to another.

    Not every parameter of two dimensions is such a matrix: Mamba's `A_log` are decay rates, some
    norms have a gain for each head, some biases a row for each expert, and each row of a router
    belongs to one expert.
    """
    linear = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, LINEAR) and isinstance(module.weight, nn.Parameter)
    }
    expert_parameters = {
        id(parameter)
        for name in expert_modules(model)
        for parameter in model.get_submodule(name).parameters()
    }
    return linear - expert_parameters - _token_tables(model)


def _decayed(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that decay: maps of an input, but no gain, bias or rate."""
    decayed = set[int]()
    for module in model.modules():
        is_norm = "norm" in type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False):
            # A parameter that ZeRO 3 has sharded shows shape (0,).
            shape = getattr(parameter, "ds_shape", parameter.shape)
            multiplies = isinstance(module, (*LINEAR, nn.Embedding))
            has_two_sides = sum(size > 1 for size in shape) >= 2
            is_map = len(shape) >= 2 and (multiplies or has_two_sides)
            is_exempt = (
                is_norm
                or name.endswith(("bias", "A_log"))
                or getattr(parameter, "_no_weight_decay", False)
            )
            if is_map and not is_exempt:
                decayed.add(id(parameter))
    return decayed


def _token_tables(model: LanguageModel) -> set[int]:
    """Return the ids of the parameters with a row for each token or position: embeddings, head."""
    modules: list[nn.Module] = [
        module for module in model.modules() if isinstance(module, nn.Embedding)
    ]
    head = cast("nn.Module | None", model.causal_lm.get_output_embeddings())
    if head is not None:
        modules.append(head)
    return {id(parameter) for module in modules for parameter in module.parameters()}


def set_learning_rate(engine: Engine, value: float) -> None:
    """Set the learning rate of the next optimizer step, times each group's `lr_scale`."""
    for group in engine.optimizer.param_groups:
        group["lr"] = value * group["lr_scale"]
