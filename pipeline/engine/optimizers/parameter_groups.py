"""Which parameters an optimizer updates alike: by which update, how fast, with how much decay."""

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from pipeline.config.run_config import RunConfig
from pipeline.engine.optimizers.optimizer_kind import ParameterGroups, optimizer_kind
from pipeline.model.experts import expert_modules
from pipeline.model.language_model import LanguageModel
from pipeline.model.parametrisation import scalings

LINEAR = (nn.Linear, Conv1D)
"""Layers that multiply by their weight; Conv1D is that of GPT-2's code, a transposed nn.Linear."""


def parameter_groups(config: RunConfig, model: LanguageModel) -> ParameterGroups:
    """Divide the parameters by who updates them, how fast, and how much they decay.

    Matrices decay, vectors (norms, biases) do not (Brown et al. 2020, appendix B). Hidden matrices
    are the weights of linear layers between embeddings and head: there a row or column is not one
    token's (Jordan et al. 2024). `lr_scale` multiplies the schedule's learning rate (muP).
    """
    settings = config.optimizer
    optimizer = optimizer_kind(settings)
    hidden = _hidden_matrices(model)
    decayed = _decayed(model.causal_lm)
    scaling = scalings(config, model.causal_lm)
    groups: dict[tuple[str, float, float], dict[str, Any]] = {}
    for name, parameter in model.causal_lm.named_parameters():
        kind = optimizer.update(id(parameter) in hidden)
        rate = scaling[name].learning_rate
        decay = 0.0
        if id(parameter) in decayed:
            decay = settings.weight_decay * scaling[name].weight_decay
        fresh: dict[str, Any] = {
            "params": [],
            "kind": kind,
            "lr_scale": rate,
            "weight_decay": decay,
        }
        group = groups.setdefault((kind, decay, rate), fresh)
        group["params"].append(parameter)
    return list(groups.values())


def _hidden_matrices(model: LanguageModel) -> set[int]:
    """Return the ids of the parameters that map one hidden state to another.

    Two dimensions do not make a matrix: Mamba's `A_log` are decay rates, some norms have a gain for
    each head, some biases a row for each expert. A router's rows are one expert's each.
    """
    linear = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, LINEAR) and isinstance(module.weight, nn.Parameter)
    }
    of_experts = {
        id(parameter)
        for name in expert_modules(model)
        for parameter in model.get_submodule(name).parameters()
    }
    return linear - of_experts - _token_tables(model)


def _decayed(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that weight decay shrinks: what multiplies an input, but no
    gain, bias or rate."""
    found = set[int]()
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
                found.add(id(parameter))
    return found


def _token_tables(model: LanguageModel) -> set[int]:
    """Return the ids of the parameters that have a row for each token or position: embeddings, and
    the head."""
    modules: list[Any] = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    modules.append(model.causal_lm.get_output_embeddings())
    return {
        id(parameter)
        for module in modules
        if module is not None
        for parameter in module.parameters()
    }


def set_learning_rate(engine: Any, value: float) -> None:
    """Set the learning rate of the next optimizer step."""
    for group in engine.optimizer.param_groups:
        group["lr"] = value * group["lr_scale"]
