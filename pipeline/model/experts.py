"""Find and refuse mixtures of experts, unless the run file asks for training without balancing.

They are refused because the load-balancing loss is no part of the objective, because Muon has no
rule for stacked matrices and routers, and because model FLOPs would count every expert as if each
token went through all of them.
"""

import re
from collections.abc import Iterator, Mapping

from torch import nn
from transformers import PreTrainedModel

from pipeline.config.optimizer_rules import optimizer_rules
from pipeline.config.run_config import RunConfig
from pipeline.store.records import Json

_MODULE = re.compile(r"(.*_)?(experts?|moe)(_.*)?|router(_gate)?")
"""Names of modules that only a mixture of experts has.

A dense model of the same architecture has none. Gemma 3n's `modality_router` chooses no experts.
"""
_BALANCING = re.compile(r"(.*_)?aux_loss_(coef|alpha|weight)|moe_loss_weight|(.*_)?load_balanc.*")
"""Names of a config's coefficient of the loss that balances the load of experts."""


def expert_modules(model: nn.Module) -> list[str]:
    """Return the names of a model's expert and router modules; none where the model is dense."""
    return [name for name, _ in model.named_modules() if _MODULE.fullmatch(name.rpartition(".")[2])]


def expert_problems(config: RunConfig, model: PreTrainedModel) -> list[str]:
    """Refuse a mixture of experts that the run file does not ask to train without balancing.

    It asks by an optimizer that has a rule for experts, and by setting the load-balancing loss to
    0. The model may be sharded or on torch's meta device.
    """
    modules = expert_modules(model)
    if not modules:
        return []

    # Does the run file set every coefficient of a load-balancing loss to 0?
    coefficients = [
        name
        for name, _ in _flat(model.config.to_dict())
        if _BALANCING.fullmatch(name.rpartition(".")[2])
    ]
    given = dict(_flat(config.model.config))
    is_wanted = bool(coefficients) and all(given.get(name) == 0 for name in coefficients)
    if is_wanted and optimizer_rules(config.optimizer).trains_experts:
        return []

    # Name the remedy, which differs where the architecture has no such coefficient.
    kind = model.config.model_type
    if coefficients:
        zeros = " and ".join(f"model.config.{name}: 0" for name in coefficients)
        remedy = f"to train it without balancing its experts, set optimizer.kind: adamw and {zeros}"
    else:
        remedy = f"{kind} has no coefficient of such a loss that the run file could set to 0"
    return [
        f"{model_setting(config)}: {kind} is a mixture of experts ({modules[0]}), and its "
        "load-balancing loss is not part of the objective that is trained, nor has Muon a rule for "
        "experts and routers; choose a dense "
        f"architecture; {remedy}"
    ]


def model_setting(config: RunConfig) -> str:
    """Return the run file's setting that names the model, with its value."""
    if config.model.pretrained is not None:
        return f"model.pretrained = {config.model.pretrained}"
    return f"model.architecture = {config.model.architecture}"


def _flat(settings: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Yield (dotted name, value) of every entry of nested settings."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
