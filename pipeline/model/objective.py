"""Whether a model is trained here for the objective that its own code in transformers has; what is
refused where not.

A small copy of the model, with its settings and drawn weights, is trained for one step by both: by
`LanguageModel` and by the model's own loss. So an architecture is known by what it does, not by a
list of names, and one that comes with a later version of transformers is checked as well. The model
itself is asked again on the ranks (`LanguageModel.examine`).
"""

from collections.abc import Callable, Sequence

import torch
from transformers import PretrainedConfig, PreTrainedModel

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, one_line
from pipeline.model.device_batch import MIXED_DOCUMENTS
from pipeline.model.experts import expert_modules, expert_problems, model_setting
from pipeline.model.language_model import LanguageModel
from pipeline.model.sizes import build_on_meta
from pipeline.model.small_copy import small_copy
from pipeline.sampling.batches import IGNORED
from pipeline.store.pretrained_folders import new_model

ROWS = 2
LENGTH = 20
"""Tokens of a text that a copy is tried on: more than its attention windows."""
MOST_PARAMETERS = 20_000_000
"""A larger copy is not tried: forward and backward of this one take about a second on one core."""
GRADIENT_TOLERANCE = 1e-3
"""Largest difference of a parameter's gradient, in fp32, relative to its norm; the floor is a
thousandth of the norm of all."""
AMPLIFIED = 4.0
"""What matrices are multiplied by before documents are compared: with weights as they begin,
attention hardly looks at others."""
DOCUMENT_TOLERANCE = 1e-3
"""Largest difference of logits, relative to the largest; another document's tokens change them by
more than a hundredth."""


def objective_problems(
    config: RunConfig, architecture: PretrainedConfig, model: PreTrainedModel
) -> list[str]:
    """Refuse a model that would be trained for another objective than its own.

    `model` is only looked at, and may be on torch's meta device. Where no small copy of it can be
    built, the ranks find the rest before their first step.
    """
    problems = structure_problems(config, model)
    if problems:
        return problems
    copy = build_copy(architecture)
    if copy is None:
        return []
    problems = objective_differences(copy)
    if problems:
        return [
            f"{model_setting(config)}: {architecture.model_type} {line}; {objective_remedy(architecture)}"
            for line in problems
        ]
    if config.data.document_mask and not keeps_documents_apart(copy):
        return [f"data.document_mask = true: {architecture.model_type} {MIXED_DOCUMENTS}"]
    return []


def structure_problems(config: RunConfig, model: PreTrainedModel) -> list[str]:
    """Refuse what a model's modules and config tell, without a forward pass: experts, and more than
    text."""
    own = model.config
    text = own.get_text_config(decoder=True)
    if (
        text.model_type == own.model_type
    ):  # of an encoder and a decoder, the decoder's part may be another object
        return expert_problems(config, model)
    return [
        f"{model_setting(config)}: {own.model_type} is made of parts, of which text is one, and its config "
        "has no width and vocabulary "
        f"of its own; choose the part that is a language model, {text.model_type}"
    ]


def refuse_objective(config: RunConfig, problems: Sequence[str]) -> None:
    """Raise ConfigError for what the ranks found of their model, see `LanguageModel.examine`."""
    if problems:
        raise ConfigError(
            [
                f"{model_setting(config)}: {problem}; choose another architecture"
                for problem in problems
            ]
        )


def objective_remedy(architecture: PretrainedConfig) -> str:
    """Return what to set instead: some encoders see only what came before once they are told that
    they decode."""
    if getattr(architecture, "is_decoder", None) is False:
        return "set model.config.is_decoder to true, or choose another architecture"
    return "choose another architecture"


def build_copy(architecture: PretrainedConfig) -> LanguageModel | None:
    """Return a small copy of a model with drawn weights, None where none can be built."""
    try:
        settings = small_copy(architecture)
        if (
            sum(parameter.numel() for parameter in build_on_meta(settings).parameters())
            > MOST_PARAMETERS
        ):
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = new_model(settings, dtype=torch.float32)
            with torch.no_grad():
                model(input_ids=torch.zeros(1, 2, dtype=torch.int64), use_cache=False)
    except (
        Exception
    ):  # whatever modeling code raises where numbers that hang together were scaled each for itself
        return None
    return LanguageModel(model)


def objective_differences(copy: LanguageModel) -> list[str]:
    """Name what differs between one step of training here and by the model's own loss, with the
    same dropout.

    Examines the copy, so that its losses are taken a few rows of logits at a time, as on the ranks.
    """
    try:
        return copy.examine() or training_differences(copy)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
    ) as error:  # it takes ids, but wants more to be trained on
        return [f"cannot compute its own loss of a text ({one_line(error)})"]


def training_differences(copy: LanguageModel) -> list[str]:
    """Name what differs in loss and gradients. Takes all logits at once where the copy has not been
    examined."""
    ids = _texts(ROWS, LENGTH, copy.config.vocab_size)
    targets = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=IGNORED)
    ours, gradients = _step(copy, lambda: copy(ids, targets)[0] / (ROWS * (LENGTH - 1)))
    own, own_gradients = _step(
        copy, lambda: copy.causal_lm(input_ids=ids, labels=ids, use_cache=False).loss
    )
    if not torch.isclose(ours, own, rtol=1e-5):
        return [
            f"has a loss of its own that is not the next token's alone: {own:.4f}, not {ours:.4f}"
        ]
    floor = GRADIENT_TOLERANCE * torch.stack([g.norm() for g in own_gradients.values()]).norm()
    differing = [
        name
        for name, gradient in own_gradients.items()
        if name not in gradients
        or (gradients[name] - gradient).norm()
        > GRADIENT_TOLERANCE * torch.maximum(gradient.norm(), floor)
    ]
    if differing:
        return [
            "gives other gradients with the loss that is computed here than with its own "
            f"({differing[0]})"
        ]
    matrices = {
        name for name, p in copy.causal_lm.named_parameters() if p.requires_grad and p.dim() >= 2
    }
    unreached = sorted(matrices - gradients.keys()) if not expert_modules(copy) else []
    return (
        [f"has matrices that no text trains and weight decay would shrink ({unreached[0]})"]
        if unreached
        else []
    )


def _step(
    copy: LanguageModel, objective: Callable[[], torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return an objective `()` in training mode, and the gradients of the parameters that it
    reaches."""
    copy.train()
    copy.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        loss = objective()
        loss.backward()
    gradients = {
        name: p.grad.clone() for name, p in copy.causal_lm.named_parameters() if p.grad is not None
    }
    return loss.detach(), gradients


@torch.no_grad()
def keeps_documents_apart(copy: LanguageModel) -> bool:
    """Return whether two documents in one row get the logits that each gets alone; changes the
    copy's weights."""
    for parameter in copy.parameters():
        parameter.mul_(AMPLIFIED if parameter.dim() >= 2 else 1)
    copy.eval()
    ids = _texts(1, LENGTH, copy.config.vocab_size)
    first = LENGTH // 2 - 1
    positions = torch.cat([torch.arange(first), torch.arange(LENGTH - first)])[None]
    together = copy(ids, positions=positions)
    alone = torch.cat([copy(ids[:, :first]), copy(ids[:, first:])], 1)
    return bool((together - alone).abs().max() < DOCUMENT_TOLERANCE * alone.abs().max())


def _texts(rows: int, length: int, ids: int) -> torch.Tensor:
    """Return random ids `(rows, length) int64`, the same at every call."""
    return torch.randint(ids, (rows, length), generator=torch.Generator().manual_seed(2))
