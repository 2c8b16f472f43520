"""Refuse a model whose own objective, in transformers' code, is not the one that is trained here.

A small copy of the model, with the same settings and drawn weights, is trained for one step twice:
by `LanguageModel` and by the model's own loss. So no list of architectures is kept, and those of
later versions of transformers are checked as well. On the ranks the model itself is examined again
(`LanguageModel.examine`).
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
"""Number of texts that a small copy of the model is tested with."""
LENGTH = 20
"""Tokens of each text: more than the attention windows of a copy."""
MOST_PARAMETERS = 20_000_000
"""Maximum number of parameters of a small copy: a step takes about a second on one core."""
GRADIENT_TOLERANCE = 1e-3
"""Maximum difference between two gradients of a parameter, in fp32, relative to the norm of one.

The norm counts as at least a thousandth of the norm of all gradients.
"""
AMPLIFIED = 4.0
"""Factor on matrices before documents are compared: initial weights attend to little."""
DOCUMENT_TOLERANCE = 1e-3
"""Maximum difference between the logits of documents sharing a row and those of each one alone.

As a fraction of the largest logit. Attention across documents makes it larger than 0.01.
"""


def objective_problems(
    config: RunConfig, architecture: PretrainedConfig, model: PreTrainedModel
) -> list[str]:
    """Return why training would minimise a different objective from the model's own.

    The model is not run, and may be on torch's meta device. Where no small copy can be built, the
    ranks compare the objectives before their first step.
    """
    problems = structure_problems(config, model)
    if problems:
        return problems
    copy = build_copy(architecture)
    if copy is None:
        return []
    problems = objective_differences(copy)
    if problems:
        subject = f"{model_setting(config)}: {architecture.model_type}"
        remedy = objective_remedy(architecture)
        return [f"{subject} {problem}; {remedy}" for problem in problems]
    if config.data.document_mask and not keeps_documents_apart(copy):
        return [f"data.document_mask = true: {architecture.model_type} {MIXED_DOCUMENTS}"]
    return []


def structure_problems(config: RunConfig, model: PreTrainedModel) -> list[str]:
    """Refuse models of several parts, and experts: what modules and config show without a run."""
    own = model.config
    text = own.get_text_config(decoder=True)
    # The decoder of an encoder-decoder may have another config object, but of the same type.
    if text.model_type == own.model_type:
        return expert_problems(config, model)
    return [
        f"{model_setting(config)}: {own.model_type} is made of parts, of which text is one, and "
        "its config has no width and vocabulary of its own; choose the part that is a language "
        f"model, {text.model_type}"
    ]


def refuse_objective(config: RunConfig, problems: Sequence[str]) -> None:
    """Raise ConfigError for the problems that `LanguageModel.examine` returned on the ranks."""
    if problems:
        raise ConfigError(
            [
                f"{model_setting(config)}: {problem}; choose another architecture"
                for problem in problems
            ]
        )


def objective_remedy(architecture: PretrainedConfig) -> str:
    """Return what to set instead: some encoders become decoders by a setting."""
    if getattr(architecture, "is_decoder", None) is False:
        return "set model.config.is_decoder to true, or choose another architecture"
    return "choose another architecture"


def build_copy(architecture: PretrainedConfig) -> LanguageModel | None:
    """Return a small copy of a model with drawn weights; None where none can be built."""
    try:
        settings = small_copy(architecture)
        parameters = build_on_meta(settings).parameters()
        if sum(parameter.numel() for parameter in parameters) > MOST_PARAMETERS:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = new_model(settings, dtype=torch.float32)
            with torch.no_grad():
                model(input_ids=torch.zeros(1, 2, dtype=torch.int64), use_cache=False)
    except Exception:
        # Whatever modeling code raises, where numbers that depend on each other were scaled each by
        # itself.
        return None
    return LanguageModel(model)


def objective_differences(copy: LanguageModel) -> list[str]:
    """Name what differs between a training step here and one by the model's own loss.

    Examines the copy first, so that losses are computed a few rows at a time, as on the ranks.
    """
    try:
        return copy.examine() or training_differences(copy)
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        # The model runs on ids, but its own loss wants more inputs than that.
        return [f"cannot compute its own loss of a text ({one_line(error)})"]


def training_differences(copy: LanguageModel) -> list[str]:
    """Name what differs in loss and gradients, with the same dropout.

    All logits are computed at once where the copy has not been examined.
    """
    # The losses.
    ids = _texts(ROWS, LENGTH, copy.config.vocab_size)
    targets = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=IGNORED)
    ours, gradients = _step(copy, lambda: copy(ids, targets)[0] / (ROWS * (LENGTH - 1)))
    own, own_gradients = _step(
        copy, lambda: copy.causal_lm(input_ids=ids, labels=ids, use_cache=False).loss
    )
    if not torch.isclose(ours, own, rtol=1e-5):
        return [
            f"has a loss of its own that is not the plain next-token loss: {own:.4f} instead of "
            f"{ours:.4f}"
        ]

    # The gradients. Comparisons with NaN are false, so that no tolerance below would find one.
    for name, gradient in gradients.items():
        if not gradient.isfinite().all():
            return [f"gives gradients that are not finite ({name})"]
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

    # Matrices without gradient. A few tokens do not reach every expert.
    matrices = {
        name for name, p in copy.causal_lm.named_parameters() if p.requires_grad and p.dim() >= 2
    }
    unreached = sorted(matrices - gradients.keys())
    if not unreached or expert_modules(copy):
        return []
    return [f"has matrices that no text trains and weight decay would shrink ({unreached[0]})"]


def _step(
    copy: LanguageModel, objective: Callable[[], torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return an objective `()` in training mode, and the gradients that it gives, by parameter."""
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
    """Tell whether two documents in one row get the logits that each gets alone.

    Changes the copy's weights.
    """
    for parameter in copy.parameters():
        if parameter.dim() >= 2:
            parameter.mul_(AMPLIFIED)
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
