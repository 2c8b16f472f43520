"""muP by what it promises: after some steps activations are of the same size at any width (Yang et
al. 2022, appendix D.1).

Each activation's mean size is measured over widths; its slope in log-log is the exponent of the
width it grows with. At initialisation muP's logits shrink as width^-1/2, which is meant: what
training adds to them is to stay. So for logits the change since initialisation is measured, after
steps enough for the noise of initialisation to be small in it.
"""

import math
from pathlib import Path
from typing import Literal

import pytest
import torch
from small_models import VOCABULARY, small_config, small_model
from transformers import PreTrainedModel

from pipeline.config.run_config import RunConfig
from pipeline.engine.optimizers.sharded_muon import Muon
from pipeline.model.parametrisation import scalings

WIDTHS = (64, 128, 256, 512)
STEPS = 8
LEARNING_RATE = 2**-9
MUP = ["model.mup=true", "model.mup_base_width=64"]
BAND = 0.2
"""Largest exponent, either way, of an activation under muP."""
LOGITS_BAND = 0.3
"""The same for the change of the logits, which still has some of the width^-1/2 of initialisation
in it."""
INSIDE = {
    "llama": ("layers.1.self_attn", "layers.1.mlp", "model.norm"),
    "qwen3": ("layers.1.self_attn", "layers.1.mlp", "model.norm"),
    "gpt_neox": ("layers.1.attention", "layers.1.mlp", "final_layer_norm"),
    "gpt2": ("h.1.attn", "h.1.mlp", "ln_f"),
}
Kind = Literal["adamw", "muon"]
Sizes = dict[str, list[float]]
"""Activation -> its mean size after 0, 1, ... steps; `logits` the size of their change since
initialisation."""


def make_optimizers(
    model: PreTrainedModel, config: RunConfig, kind: Kind
) -> list[torch.optim.Optimizer]:
    """Return AdamW, and Muon for matrices between layers if asked, with each parameter's own rate
    and decay."""
    factors = scalings(config, model)
    groups: dict[str, list[dict[str, object]]] = {"adamw": [], "muon": []}
    for name, parameter in model.named_parameters():
        matrix = parameter.dim() == 2
        hidden = matrix and any(part in name for part in (".layers.", ".h."))
        groups["muon" if kind == "muon" and hidden else "adamw"].append(
            {
                "params": [parameter],
                "lr": LEARNING_RATE * factors[name].learning_rate,
                "weight_decay": 0.1 * factors[name].weight_decay * matrix,
            }
        )
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups["adamw"], betas=(0.9, 0.95), eps=1e-8)
    ]
    if groups["muon"]:
        optimizers.append(
            Muon(
                [
                    {**group, "kind": "muon", "momentum": 0.95, "rms": 0.2}
                    for group in groups["muon"]
                ],
                0.0,
            )
        )
    return optimizers


def sizes_while_training(model: PreTrainedModel, optimizers: list[torch.optim.Optimizer]) -> Sizes:
    """Train on one batch of random tokens and measure before each step and after the last."""
    sizes: Sizes = {part: [] for part in ("attention", "MLP", "hidden", "logits")}

    def note(part: str, value: torch.Tensor) -> None:
        sizes[part].append(value.detach().abs().mean().item())

    attention, mlp, norm = INSIDE[model.config.model_type]
    for name, module in model.named_modules():
        if name.endswith(attention):
            module.register_forward_hook(
                lambda _module, _inputs, outputs: note("attention", outputs[0])
            )
        if name.endswith(mlp):
            module.register_forward_hook(lambda _module, _inputs, outputs: note("MLP", outputs))
        if name.endswith(norm):
            module.register_forward_pre_hook(lambda _module, inputs: note("hidden", inputs[0]))
    ids = torch.randint(VOCABULARY, (4, 33), generator=torch.Generator().manual_seed(7))
    first = None
    for step in range(STEPS + 1):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        first = logits.detach() if first is None else first
        note("logits", logits - first)
        if step < STEPS:
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    return sizes


def slope(values: list[float]) -> float:
    """Return the least-squares slope of log(value) over log(width), one value a width."""
    x, y = [math.log(w) for w in WIDTHS], [math.log(v) for v in values]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    return sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / sum(
        (a - x_mean) ** 2 for a in x
    )


def exponents(
    config: RunConfig, kind: Kind, is_tied: bool, grows: str = "heads"
) -> dict[str, list[float]]:
    """Return the exponent of each activation after 0, 1, ... steps; of the logits' change after 1,
    2, ..."""
    by_width = []
    for width in WIDTHS:
        model = small_model(config, width, 16 if grows == "heads" else width // 4, is_tied)
        by_width.append(sizes_while_training(model, make_optimizers(model, config, kind)))
    return {
        part: [
            slope([sizes[part][step] for sizes in by_width])
            for step in range(part == "logits", STEPS + 1)
        ]
        for part in by_width[0]
    }


GRID = [(a, kind, tied) for a in INSIDE for kind in ("adamw", "muon") for tied in (False, True)]
BY_DEFAULT = [("llama", "adamw", False)]


@pytest.mark.parametrize(
    ("architecture", "kind", "is_tied"),
    [pytest.param(*case, marks=() if case in BY_DEFAULT else pytest.mark.full) for case in GRID],
)
def test_sizes_do_not_depend_on_width(
    run_file: Path, architecture: str, kind: Kind, is_tied: bool
) -> None:
    found = exponents(
        small_config(run_file, architecture, *MUP, f"optimizer.kind={kind}"), kind, is_tied
    )
    for part in ("attention", "MLP", "hidden"):
        assert max(map(abs, found[part])) < BAND, (part, found[part])
    assert max(map(abs, found["logits"][-3:])) < LOGITS_BAND, found["logits"]
    # The same without muP: whatever holds above is not for want of training.
    standard = exponents(small_config(run_file, architecture), kind, is_tied)
    for part in ("attention", "MLP", "hidden"):
        assert min(standard[part]) > 2 * BAND, (part, standard[part])
    assert min(standard["logits"][:3]) > 2 * BAND, standard["logits"]


@pytest.mark.full
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_sizes_do_not_depend_on_the_width_of_heads(run_file: Path, architecture: str) -> None:
    config = small_config(
        run_file, architecture, *MUP, "model.mup_base_head_dim=16", "optimizer.kind=adamw"
    )
    found = exponents(config, "adamw", False, grows="head_dim")
    for part in ("attention", "MLP", "hidden"):
        assert max(map(abs, found[part])) < BAND, (part, found[part])
    assert max(map(abs, found["logits"][-3:])) < LOGITS_BAND, found["logits"]
